// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/netcdf.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <cmath>
#include <numeric>
#include <thread>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::netcdf_test {
namespace {

using test::NcVariable;
using test::NcWriter;
using test::TemporaryFolder;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<double> counting(int64_t count) {
  std::vector<double> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 1);
  return values;
}

bool same(const at::Tensor& a, const at::Tensor& b) { return at::allclose(a, b, 0, 0, true); }

/// What NetcdfFile reads of a variable of one dimension with these attributes.
at::Tensor round_trip(const NcVariable& variable,
                      const std::vector<std::pair<std::string, double>>& attributes,
                      hid_t attribute_type = H5T_IEEE_F64LE) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", variable.values.size()}});
    writer.add(variable);
    for (const auto& [name, value] : attributes) {
      writer.number(variable.name, name, value, attribute_type);
    }
  }
  return NetcdfFile(folder / "a.nc").read(variable.name);
}

class StoredAs : public testing::TestWithParam<NcVariable> {};

TEST_P(StoredAs, ReadsTheValuesThatWereWritten) {
  const TemporaryFolder folder;
  NcVariable variable = GetParam();
  variable.name = "v";
  variable.dimensions = {"a", "b", "c"};
  variable.values = counting(5 * 7 * 3);
  { NcWriter(folder / "a.nc", {{"a", 5}, {"b", 7}, {"c", 3}}).add(variable); }
  const NetcdfFile file(folder / "a.nc");
  const at::Tensor wanted = at::arange(1, 106, at::kFloat).reshape({5, 7, 3});

  EXPECT_TRUE(at::equal(file.read("v").to(at::kFloat), wanted));
  const at::Tensor part = file.read("v", {1, 2, 1}, {3, 4, 2}).to(at::kFloat);
  EXPECT_TRUE(at::equal(part, wanted.slice(0, 1, 4).slice(1, 2, 6).slice(2, 1, 3)));
}

// Chunks of 2 x 4 x 3 do not divide the variable; the last is larger than it.
INSTANTIATE_TEST_SUITE_P(
    Layouts, StoredAs,
    testing::Values(NcVariable{}, NcVariable{.chunk = {2, 4, 3}},
                    NcVariable{.chunk = {2, 4, 3}, .deflate = 0},
                    NcVariable{.chunk = {2, 4, 3}, .deflate = 1, .shuffle = true},
                    NcVariable{.chunk = {1, 7, 3}, .deflate = 9, .fletcher32 = true},
                    NcVariable{.type = H5T_IEEE_F32BE}, NcVariable{.type = H5T_IEEE_F64LE},
                    NcVariable{.type = H5T_STD_I16BE, .chunk = {5, 5, 3}, .shuffle = true},
                    NcVariable{.type = H5T_STD_U8LE}, NcVariable{.type = H5T_STD_I64BE}));

TEST(NetcdfFile, GivesFloatForFloatAndDoubleForDoubleAndPlainIntegers) {
  const std::vector<double> values = {1551398400, 2};
  EXPECT_EQ(round_trip({.name = "x", .dimensions = {"x"}, .values = values}, {}).scalar_type(),
            at::kFloat);
  const NcVariable plain{.name = "x", .dimensions = {"x"}, .values = values, .type = H5T_STD_I64LE};
  EXPECT_EQ(round_trip(plain, {})[0].item<double>(), 1551398400.0);
  EXPECT_EQ(round_trip(plain, {{"scale_factor", 0.5}}).scalar_type(), at::kFloat);
}

TEST(NetcdfFile, UnpacksInDoubleAndRoundsOnce) {
  const double scale = 0.0008410823912189279;  // of an ERA5 file
  const double offset = 295.92633727130436;
  const NcVariable packed{
      .name = "x", .dimensions = {"x"}, .values = {-32766, 0, 32767}, .type = H5T_STD_I16LE};
  const at::Tensor values = round_trip(packed, {{"scale_factor", scale}, {"add_offset", offset}});
  const std::vector<float> wanted = {static_cast<float>(-32766 * scale + offset),
                                     static_cast<float>(offset),
                                     static_cast<float>(32767 * scale + offset)};
  EXPECT_TRUE(at::equal(values, at::tensor(wanted)));
}

TEST(NetcdfFile, UnpacksWithNegativeScale) {
  const NcVariable packed{.name = "x", .dimensions = {"x"}, .values = {1, 2}, .type = H5T_STD_I8LE};
  EXPECT_TRUE(at::equal(round_trip(packed, {{"scale_factor", -2.5}}), at::tensor({-2.5F, -5.0F})));
}

TEST(NetcdfFile, ReadsBytesMarkedUnsignedAsSuch) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 3}});
    writer.add({.name = "x", .dimensions = {"x"}, .values = {-128, -1, 1}, .type = H5T_STD_I8LE});
    writer.text("x", "_Unsigned", "true");
    writer.number("x", "_FillValue", -1, H5T_STD_I8LE);
  }
  EXPECT_TRUE(
      same(NetcdfFile(folder / "a.nc").read("x").to(at::kFloat), at::tensor({128.0F, kNan, 1.0F})));
}

TEST(NetcdfFile, MasksFillValueAndMissingValueBeforeUnpacking) {
  const NcVariable packed{
      .name = "x", .dimensions = {"x"}, .values = {-32767, -999, 4}, .type = H5T_STD_I16LE};
  const at::Tensor values =
      round_trip(packed, {{"_FillValue", -32767}, {"missing_value", -999}, {"scale_factor", 0.5}});
  EXPECT_TRUE(same(values, at::tensor({kNan, kNan, 2.0F})));
}

TEST(NetcdfFile, MasksMissingValuesOfAnotherTypeThanTheVariables) {
  const NcVariable single{.name = "x", .dimensions = {"x"}, .values = {1e20, 3}};
  EXPECT_TRUE(same(round_trip(single, {{"missing_value", 1e20}}), at::tensor({kNan, 3.0F})));
  const NcVariable twice{
      .name = "x", .dimensions = {"x"}, .values = {1e20, 3}, .type = H5T_IEEE_F64LE};
  EXPECT_TRUE(
      std::isnan(round_trip(twice, {{"missing_value", 1e20}}, H5T_IEEE_F32LE)[0].item<double>()));
  const NcVariable widened{
      .name = "x", .dimensions = {"x"}, .values = {1e20F, 3}, .type = H5T_IEEE_F64LE};
  EXPECT_TRUE(std::isnan(round_trip(widened, {{"missing_value", 1e20}})[0].item<double>()));
  const NcVariable whole{
      .name = "x", .dimensions = {"x"}, .values = {-999, 3}, .type = H5T_STD_I16LE};
  EXPECT_TRUE(std::isnan(round_trip(whole, {{"missing_value", -999.0}})[0].item<double>()));
}

TEST(NetcdfFile, TakesMissingValueWrittenAsText) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 2}});
    writer.add({.name = "x", .dimensions = {"x"}, .values = {-999, 1}});
    writer.text("x", "missing_value", "-999");
  }
  EXPECT_TRUE(same(NetcdfFile(folder / "a.nc").read("x"), at::tensor({kNan, 1.0F})));
}

TEST(NetcdfFile, MasksNetcdfsDefaultFillWhereTheFileGivesNone) {
  const double fill = 9.9692099683868690e+36;
  const NcVariable variable{.name = "x", .dimensions = {"x"}, .values = {fill, 1}};
  EXPECT_TRUE(same(round_trip(variable, {}), at::tensor({kNan, 1.0F})));
  EXPECT_FALSE(std::isnan(round_trip(variable, {{"_FillValue", -1}})[0].item<float>()));
}

TEST(NetcdfFile, GivesNanForChunksThatWereNeverWritten) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 5}});
    writer.add(
        {.name = "v", .dimensions = {"x"}, .values = {}, .chunk = {2}, .deflate = 1, .fill = -999});
    writer.number("v", "_FillValue", -999, H5T_IEEE_F32LE);
  }
  EXPECT_TRUE(NetcdfFile(folder / "a.nc").read("v").isnan().all().item<bool>());
}

TEST(NetcdfFile, ReadsScalars) {
  const TemporaryFolder folder;
  { NcWriter(folder / "a.nc", {}).add({.name = "v", .dimensions = {}, .values = {4.5}}); }
  const at::Tensor value = NetcdfFile(folder / "a.nc").read("v");
  EXPECT_EQ(value.dim(), 0);
  EXPECT_EQ(value.item<float>(), 4.5F);
}

TEST(NetcdfFile, FindsVariablesInGroupsByPath) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 2}});
    writer.add({.name = "x", .dimensions = {"x"}, .values = {1, 2}});
    writer.add({.name = "grp1/deep/T", .dimensions = {"x"}, .values = {3, 4}});
    writer.attach_dimensions("grp1/deep/T");
  }
  const NetcdfFile file(folder / "a.nc");
  EXPECT_TRUE(at::equal(file.read("grp1/deep/T"), at::tensor({3.0F, 4.0F})));
  EXPECT_EQ(file.variable("grp1/deep/T").dimensions, std::vector<std::string>{"x"});
}

TEST(NetcdfFile, DescribesVariables) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 4}, {"bnds", 2}});
    writer.add({.name = "x", .dimensions = {"x"}, .values = {1, 2, 3, 4}, .type = H5T_STD_I32LE});
    writer.dimension_only("bnds");
    writer.add({.name = "v", .dimensions = {"x", "bnds"}, .values = counting(8), .chunk = {3, 2}});
    writer.attach_dimensions("v");
    writer.text("v", "units", "K");
    writer.vlen_text("v", "long_name", "über alles");
    writer.number("v", "valid_min", 1.5);
  }
  const NetcdfFile file(folder / "a.nc");
  EXPECT_EQ(file.variables().size(), 2);  // bnds is only a dimension
  const VariableInfo& v = file.variable("v");
  EXPECT_EQ(v.type, "float32");
  EXPECT_EQ(v.dimensions, (std::vector<std::string>{"x", "bnds"}));
  EXPECT_EQ(v.shape, (std::vector<int64_t>{4, 2}));
  EXPECT_EQ(v.chunk, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(text_attribute(v, "units"), "K");
  EXPECT_EQ(text_attribute(v, "long_name"), "über alles");
  EXPECT_EQ(std::get<std::vector<double>>(v.attributes.at("valid_min")), std::vector<double>{1.5});
  EXPECT_EQ(v.attributes.size(), 3);  // DIMENSION_LIST is not among them
  EXPECT_EQ(file.variable("x").type, "int32");
}

TEST(NetcdfFile, NamesDimensionsByTheirNumberWhereNoListDoes) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 2}, {"y", 3}});
    writer.add({.name = "x", .dimensions = {"x"}, .values = {1, 2}});
    writer.integers("x", "_Netcdf4Dimid", {5});
    writer.dimension_only("y");
    writer.integers("y", "_Netcdf4Dimid", {7});
    writer.add({.name = "v", .dimensions = {"x", "y"}, .values = counting(6)});
    writer.integers("v", "_Netcdf4Coordinates", {5, 7});
    writer.add({.name = "w", .dimensions = {"x", "y"}, .values = counting(6)});
  }
  const NetcdfFile file(folder / "a.nc");
  EXPECT_EQ(file.variable("v").dimensions, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(file.variable("w").dimensions,
            (std::vector<std::string>{"phony_dim_0", "phony_dim_1"}));
}

TEST(NetcdfFile, ReadsTheExampleData) {
  const NetcdfFile file(ISOBAR_EXAMPLE_DATA);
  EXPECT_EQ(file.variable("t2m").dimensions,
            (std::vector<std::string>{"valid_time", "latitude", "longitude"}));
  EXPECT_EQ(file.variable("expver").type, "string");
  const at::Tensor t2m = file.read("t2m");
  // As netCDF4-python 1.7 reads them.
  EXPECT_EQ(t2m[0][0][0].item<float>(), 282.4248F);
  EXPECT_EQ(t2m[100][10][20].item<float>(), 278.32202F);
  EXPECT_EQ(t2m[743][32][48].item<float>(), 281.45483F);
  EXPECT_NEAR(t2m.to(at::kDouble).mean().item<double>(), 280.7740585847981, 1e-9);
}

TEST(NetcdfFile, UnpacksEra5AsItsPublisherDid) {
  const NetcdfFile file(ISOBAR_TEST_FILES "/era5_packed_sfc_1995-07-14T12.nc");
  const at::Tensor kelvin = file.read("t2m").to(at::kDouble);
  const at::Tensor celsius = file.read("t2m_C").to(at::kDouble);
  // Both hold the value as float32: half a unit in the last place of 300 K, 1.5e-5, each way.
  EXPECT_LT((kelvin - 273.15 - celsius).abs().max().item<double>(), 3.2e-5);
}

TEST(NetcdfFile, ReadsFromSeveralThreadsAtOnce) {
  const NetcdfFile file(ISOBAR_EXAMPLE_DATA);
  const at::Tensor wanted = file.read("t2m");
  std::vector<int> right(4);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int64_t time = thread; time < 200; time += 4) {
        right[thread] +=
            at::equal(file.read("t2m", {time, 0, 0}, {1, 33, 49})[0], wanted[time]) ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, (std::vector<int>{50, 50, 50, 50}));
}

}  // namespace
}  // namespace isobar::netcdf_test
