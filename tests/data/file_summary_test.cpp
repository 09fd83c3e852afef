// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/file_summary.hpp>

#include <gtest/gtest.h>

#include <cmath>

#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::file_summary_test {
namespace {

TEST(FileSummary, TellsTheLeastTheGreatestAndWhatIsMissing) {
  const test::TemporaryFolder folder;
  {
    test::NcWriter writer(folder / "a.nc", {{"x", 5}});
    writer.add({.name = "v", .dimensions = {"x"}, .values = {3, -999, -7, 2, -999}, .chunk = {2}});
    writer.number("v", "_FillValue", -999, H5T_IEEE_F32LE);
    writer.add({.name = "scalar", .dimensions = {}, .values = {4}});
    writer.add({.name = "gaps", .dimensions = {"x"}, .values = {}, .chunk = {2}});
    writer.add_texts("words", {"a"});
  }
  const NetcdfFile file(folder / "a.nc");
  int64_t told = 0;
  const auto v =
      summarize_variable(file, file.variable("v"), [&](int64_t values) { told += values; });
  EXPECT_EQ(v.minimum, -7);
  EXPECT_EQ(v.maximum, 3);
  EXPECT_EQ(v.missing, 2);
  EXPECT_EQ(v.values, 5);
  EXPECT_EQ(told, 5);
  EXPECT_EQ(summarize_variable(file, file.variable("scalar")).maximum, 4);
  const auto gaps = summarize_variable(file, file.variable("gaps"));
  EXPECT_EQ(gaps.missing, 5);
  EXPECT_TRUE(std::isnan(gaps.minimum));
  EXPECT_FALSE(has_numbers(file.variable("words")));
}

TEST(FileSummary, ShowsAMomentForANumberOfHours) {
  VariableInfo time{.name = "time", .type = "float64"};
  time.attributes["units"] = std::vector<std::string>{"hours since 2019-03-01"};
  EXPECT_EQ(value_text(time, 30), "2019-03-02T06:00");
  time.attributes["units"] = std::vector<std::string>{"furlongs since 2019-03-01"};
  EXPECT_EQ(value_text(time, 30), "30");
  EXPECT_EQ(value_text(time, std::nan("")), "-");
}

TEST(FileSummary, SaysWhyAVariableCannotBeRead) {
  const test::TemporaryFolder folder;
  {
    test::NcWriter writer(folder / "a.nc", {{"x", 1}});
    writer.add({.name = "v", .dimensions = {"x"}, .values = {1}});
    writer.text("v", "scale_factor", "big");
  }
  const NetcdfFile file(folder / "a.nc");
  EXPECT_NE(
      summarize_variable(file, file.variable("v")).error.find("scale_factor is not one number"),
      std::string::npos);
}

}  // namespace
}  // namespace isobar::file_summary_test
