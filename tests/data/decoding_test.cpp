// SPDX-License-Identifier: Apache-2.0
// What stored values become, through a file.
#include "data/decoding.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <cmath>
#include <functional>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::decoding_test {
namespace {

using test::NcVariable;
using test::NcWriter;
using test::TemporaryFolder;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

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

TEST(Decoding, GivesFloatForFloatAndDoubleForDoubleAndPlainIntegers) {
  const std::vector<double> values = {1551398400, 2};
  EXPECT_EQ(round_trip({.name = "x", .dimensions = {"x"}, .values = values}, {}).scalar_type(),
            at::kFloat);
  const NcVariable plain{.name = "x", .dimensions = {"x"}, .values = values, .type = H5T_STD_I64LE};
  EXPECT_EQ(round_trip(plain, {})[0].item<double>(), 1551398400.0);
  EXPECT_EQ(round_trip(plain, {{"scale_factor", 0.5}}).scalar_type(), at::kFloat);
}

TEST(Decoding, UnpacksInDoubleAndRoundsOnce) {
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

TEST(Decoding, UnpacksWithNegativeScale) {
  const NcVariable packed{.name = "x", .dimensions = {"x"}, .values = {1, 2}, .type = H5T_STD_I8LE};
  EXPECT_TRUE(at::equal(round_trip(packed, {{"scale_factor", -2.5}}), at::tensor({-2.5F, -5.0F})));
}

TEST(Decoding, ReadsBytesMarkedUnsignedAsSuch) {
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

TEST(Decoding, MasksFillValueAndMissingValueBeforeUnpacking) {
  const NcVariable packed{
      .name = "x", .dimensions = {"x"}, .values = {-32767, -999, 4}, .type = H5T_STD_I16LE};
  const at::Tensor values =
      round_trip(packed, {{"_FillValue", -32767}, {"missing_value", -999}, {"scale_factor", 0.5}});
  EXPECT_TRUE(same(values, at::tensor({kNan, kNan, 2.0F})));
}

TEST(Decoding, MasksMissingValuesOfAnotherTypeThanTheVariables) {
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

TEST(Decoding, TakesMissingValueWrittenAsText) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 2}});
    writer.add({.name = "x", .dimensions = {"x"}, .values = {-999, 1}});
    writer.text("x", "missing_value", "-999");
  }
  EXPECT_TRUE(same(NetcdfFile(folder / "a.nc").read("x"), at::tensor({kNan, 1.0F})));
}

TEST(Decoding, MasksNetcdfsDefaultFillWhereTheFileGivesNone) {
  const double fill = 9.9692099683868690e+36;
  const NcVariable variable{.name = "x", .dimensions = {"x"}, .values = {fill, 1}};
  EXPECT_TRUE(same(round_trip(variable, {}), at::tensor({kNan, 1.0F})));
  EXPECT_FALSE(std::isnan(round_trip(variable, {{"_FillValue", -1}})[0].item<float>()));
  for (const auto& [type, number] : {std::pair{H5T_STD_I16LE, -32767.0},
                                     {H5T_STD_U16LE, 65535.0},
                                     {H5T_STD_I32LE, -2147483647.0}}) {
    const NcVariable whole{.name = "x", .dimensions = {"x"}, .values = {number, 1}, .type = type};
    EXPECT_TRUE(same(round_trip(whole, {}).to(at::kFloat), at::tensor({kNan, 1.0F}))) << number;
  }
}

TEST(Decoding, KeepsTheDefaultFillMissingBesideMissingValue) {
  const double fill = 9.9692099683868690e+36;
  const NcVariable variable{.name = "x", .dimensions = {"x"}, .values = {fill, -999, 1}};
  EXPECT_TRUE(
      same(round_trip(variable, {{"missing_value", -999}}), at::tensor({kNan, kNan, 1.0F})));
}

TEST(Decoding, HasNoDefaultFillWhereFillIsOff) {
  const NcVariable variable{.name = "x",
                            .dimensions = {"x"},
                            .values = {-32767, 1},
                            .type = H5T_STD_I16LE,
                            .fill_off = true};
  EXPECT_EQ(round_trip(variable, {})[0].item<double>(), -32767);
}

/// What is read of a variable x of values of a type, with attributes that `describe` writes.
at::Tensor described(hid_t type, const std::vector<double>& values,
                     const std::function<void(NcWriter&)>& describe) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", values.size()}});
    writer.add({.name = "x", .dimensions = {"x"}, .values = values, .type = type});
    describe(writer);
  }
  return NetcdfFile(folder / "a.nc").read("x").to(at::kFloat);
}

TEST(Decoding, MasksWhatLiesOutsideTheValidLimits) {
  const auto range = described(H5T_IEEE_F32LE, {149, 150, 350, 7777}, [](NcWriter& writer) {
    writer.numbers("x", "valid_range", {150, 350}, H5T_IEEE_F32LE);
  });
  EXPECT_TRUE(same(range, at::tensor({kNan, 150.0F, 350.0F, kNan})));
  const auto ends = described(H5T_IEEE_F64LE, {-1, 0, 5, 6}, [](NcWriter& writer) {
    writer.number("x", "valid_min", 0);
    writer.number("x", "valid_max", 5);
  });
  EXPECT_TRUE(same(ends, at::tensor({kNan, 0.0F, 5.0F, kNan})));
  // 0.1 as a float is a little more than as a double, and is meant by it.
  const auto rounded = described(H5T_IEEE_F32LE, {0.1, 0.2},
                                 [](NcWriter& writer) { writer.number("x", "valid_max", 0.1); });
  EXPECT_TRUE(same(rounded, at::tensor({0.1F, kNan})));
}

TEST(Decoding, TakesLimitsOfPackedValuesAsPackedUnlessTheyAreOfTheScalesType) {
  const auto packed = [](hid_t type, const std::vector<double>& range) {
    return described(H5T_STD_I16LE, {-1, 0, 10, 11}, [&](NcWriter& writer) {
      writer.number("x", "scale_factor", 0.1);
      writer.number("x", "add_offset", 100);
      writer.numbers("x", "valid_range", range, type);
    });
  };
  const auto wanted = at::tensor({kNan, 100.0F, 101.0F, kNan});
  EXPECT_TRUE(same(packed(H5T_STD_I16LE, {0, 10}), wanted));
  EXPECT_TRUE(same(packed(H5T_STD_I32LE, {0, 10}), wanted));
  EXPECT_TRUE(same(packed(H5T_IEEE_F64LE, {100, 101}), wanted));
}

TEST(Decoding, ReadsAttributesInTheSignednessOfTheValues) {
  const auto bytes = described(H5T_STD_I8LE, {-1, -2, 3}, [](NcWriter& writer) {
    writer.text("x", "_Unsigned", "true");
    writer.number("x", "_FillValue", 255, H5T_STD_U8LE);
    writer.numbers("x", "valid_range", {10, -2}, H5T_STD_I8LE);  // 10 to 254
  });
  EXPECT_TRUE(same(bytes, at::tensor({kNan, 254.0F, kNan})));
  const auto signed_bytes = described(H5T_STD_U8LE, {255, 254, 3}, [](NcWriter& writer) {
    writer.text("x", "_Unsigned", "false");
    writer.number("x", "_FillValue", -1, H5T_STD_I8LE);
  });
  EXPECT_TRUE(same(signed_bytes, at::tensor({kNan, -2.0F, 3.0F})));
  const auto shorts = described(H5T_STD_I16LE, {-1, 3}, [](NcWriter& writer) {
    writer.number("x", "missing_value", 65535, H5T_STD_U16LE);
  });
  EXPECT_TRUE(same(shorts, at::tensor({kNan, 3.0F})));
}

}  // namespace
}  // namespace isobar::decoding_test
