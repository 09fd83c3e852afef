// SPDX-License-Identifier: Apache-2.0
// Levels, members and versions, through a data set.
#include "data/selection.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <isobar/data/dataset.hpp>
#include <cmath>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::selection_test {
namespace {

using test::message_of;
using test::NcWriter;
using test::TemporaryFolder;

/// Fields of one point along dimensions that are neither time nor grid.
class Choices : public testing::Test {
 protected:
  Choices() {
    NcWriter writer(folder_ / "a.nc", {{"number", 2},
                                       {"time", 1},
                                       {"level", 3},
                                       {"expver", 2},
                                       {"latitude", 1},
                                       {"longitude", 1}});
    const auto axis = [&](const char* name, const std::vector<double>& values, const char* units) {
      writer.add({.name = name, .dimensions = {name}, .values = values});
      writer.text(name, "units", units);
    };
    axis("time", {0}, "hours since 2019-03-01");
    axis("latitude", {50}, "degrees_north");
    axis("longitude", {1}, "degrees_east");
    axis("level", {1000, 850, 500}, "hPa");
    writer.add_texts("expver", {"0001", "0005"});
    writer.dimension_only("number");
    writer.add({.name = "t",
                .dimensions = {"number", "time", "level", "expver", "latitude", "longitude"},
                .values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}});
    writer.attach_dimensions("t");
  }

  float at(const std::map<std::string, std::string>& select) const {
    return Dataset({.paths = {folder_ / "a.nc"}, .variables = {"t"}, .select = select})
        .read(0)
        .item<float>();
  }
  std::string refusal(const std::map<std::string, std::string>& select) const {
    return message_of<DataError>([&] { at(select); });
  }

  TemporaryFolder folder_;
};

TEST_F(Choices, AreByValueOrPosition) {
  EXPECT_EQ(at({{"number", "0"}, {"level", "1000"}, {"expver", "0001"}}), 0);
  EXPECT_EQ(at({{"number", "1"}, {"level", "850.0"}, {"expver", "5"}}), 9);
  EXPECT_EQ(at({{"number", "1"}, {"level", "500"}, {"expver", "1"}}), 10);
}

TEST_F(Choices, FillInForEachOther) {
  const hid_t file = H5Fopen((folder_ / "a.nc").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t t = H5Dopen2(file, "t", H5P_DEFAULT);
  std::vector<double> values(12, NAN);
  values[3] = 7;  // member 0, level 850, version 5
  H5Dwrite(t, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  H5Dclose(t);
  H5Fclose(file);
  EXPECT_EQ(at({{"number", "0"}, {"level", "850"}, {"expver", "1, 5"}}), 7);
  const std::string one = refusal({{"number", "0"}, {"level", "850"}, {"expver", "1"}});
  EXPECT_NE(one.find("'t' has missing values"), std::string::npos) << one;
}

TEST_F(Choices, AreAskedForByName) {
  const auto says = [&](const std::map<std::string, std::string>& select,
                        const std::string& wanted) {
    const std::string message = refusal(select);
    EXPECT_NE(message.find(wanted), std::string::npos) << message;
  };
  says({{"number", "0"}, {"expver", "1"}},
       "variable 't' has 3 values (1000, 850, 500 hPa) of 'level'; choose one with "
       "data.select.level=1000");
  says({{"level", "850"}, {"expver", "1"}},
       "2 values (0, 1) of 'number'; choose one with data.select.number=0");
  says({{"level", "850"}, {"number", "0"}}, "2 values (0001, 0005) of 'expver'");
  says({{"level", "700"}}, "data.select.level: 700 is not there; variable 't' has 3 values");
  says({{"levl", "700"}}, "no variable has such a dimension; did you mean 'level'?");
  says({{"latitude", "50"}, {"number", "0"}, {"level", "500"}, {"expver", "1"}},
       "data.select.latitude: it is an axis of the fields");
}

}  // namespace
}  // namespace isobar::selection_test
