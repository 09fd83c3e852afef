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

/// IEEE 754's float16, for which HDF5 has no name.
hid_t half_float() {
  const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(type, 15, 10, 5, 0, 10);
  H5Tset_precision(type, 16);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, 15);
  return type;
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
                    NcVariable{.type = H5T_STD_U8LE}, NcVariable{.type = H5T_STD_I64BE},
                    NcVariable{.type = half_float()}));

TEST(NetcdfFile, KnowsWhatWasNeverWrittenWhereFillIsOff) {
  const TemporaryFolder folder;
  const hid_t file = H5Fcreate((folder / "a.nc").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hsize_t shape[] = {7, 5}, chunk[] = {3, 2}, start[] = {3, 2}, count[] = {2, 2};
  const hid_t space = H5Screate_simple(2, shape, nullptr);
  const hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER);
  H5Dclose(H5Dcreate2(file, "whole", H5T_STD_I8LE, space, H5P_DEFAULT, layout, H5P_DEFAULT));
  H5Pset_chunk(layout, 2, chunk);
  const hid_t part =
      H5Dcreate2(file, "part", H5T_IEEE_F32LE, space, H5P_DEFAULT, layout, H5P_DEFAULT);
  // The chunk of rows 3 to 5 and columns 2 and 3; what is not written of it is anything.
  const std::vector<float> ones(6, 1);
  H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nullptr, count, nullptr);
  const hid_t memory = H5Screate_simple(2, count, nullptr);
  H5Dwrite(part, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, ones.data());
  for (const hid_t id : {part, file}) H5Idec_ref(id);
  for (const hid_t id : {space, layout, memory}) H5Idec_ref(id);
  const NetcdfFile read(folder / "a.nc");
  EXPECT_TRUE(read.read("whole").isnan().all().item<bool>());
  auto written = read.read("part", {1, 1}, {6, 4});
  EXPECT_TRUE(at::equal(written.slice(0, 2, 4).slice(1, 1, 3), at::ones({2, 2})));
  written.slice(0, 2, 5).slice(1, 1, 3).fill_(kNan);
  EXPECT_TRUE(written.isnan().all().item<bool>());
}

TEST(NetcdfFile, ReadsCoordinatesInDoubleAndWithoutLimits) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 2}});
    writer.add({.name = "x",
                .dimensions = {"x"},
                .values = {631152000, 631155600},
                .type = H5T_STD_I32LE});
    writer.number("x", "scale_factor", 1);
    writer.number("x", "valid_max", 10, H5T_STD_I32LE);
  }
  EXPECT_TRUE(at::equal(NetcdfFile(folder / "a.nc").read_coordinate("x"),
                        at::tensor({631152000.0, 631155600.0}, at::kDouble)));
}

TEST(NetcdfFile, ReadsTextOfEitherKind) {
  const TemporaryFolder folder;
  { NcWriter(folder / "a.nc", {}).add_texts("expver", {"0001", "0005"}); }
  EXPECT_EQ(NetcdfFile(folder / "a.nc").read_text("expver"),
            (std::vector<std::string>{"0001", "0005"}));
  EXPECT_EQ(NetcdfFile(ISOBAR_EXAMPLE_DATA).read_text("expver").front(), "0001");
}

TEST(NetcdfFile, LooksPastObjectsThatNetcdfDoesNotKnow) {
  const TemporaryFolder folder;
  { NcWriter(folder / "a.nc", {{"x", 1}}).add({.name = "v", .dimensions = {"x"}, .values = {4}}); }
  const hid_t file = H5Fopen((folder / "a.nc").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  H5Lcreate_soft("/nowhere", file, "dangling", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_external("none.h5", "/x", file, "outside", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_hard(file, "/", file, "loop", H5P_DEFAULT, H5P_DEFAULT);
  const hid_t pair = H5Tcreate(H5T_COMPOUND, 8), null = H5Screate(H5S_NULL);
  H5Tinsert(pair, "a", 0, H5T_NATIVE_INT);
  H5Tcommit2(file, "type", pair, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t v = H5Dopen2(file, "v", H5P_DEFAULT);
  H5Aclose(H5Acreate2(v, "empty", H5T_NATIVE_FLOAT, null, H5P_DEFAULT, H5P_DEFAULT));
  H5Aclose(H5Acreate2(v, "pairs", pair, null, H5P_DEFAULT, H5P_DEFAULT));
  H5Dclose(H5Dcreate2(file, "void", H5T_NATIVE_INT, null, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  for (const hid_t id : {pair, null, v, file}) H5Idec_ref(id);
  EXPECT_EQ(NetcdfFile(folder / "a.nc").read("v").item<float>(), 4);
}

TEST(NetcdfFile, ReadsBeyondTwoToThePowerOf31Values) {
  const TemporaryFolder folder;
  const hid_t file = H5Fcreate((folder / "a.nc").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hsize_t shape[] = {60000, 181, 240}, chunk[] = {1, 181, 240}, start[] = {59999, 180, 239},
                one[] = {1, 1, 1};
  const hid_t space = H5Screate_simple(3, shape, nullptr), memory = H5Screate(H5S_SCALAR);
  const hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(layout, 3, chunk);
  const hid_t v = H5Dcreate2(file, "v", H5T_IEEE_F32LE, space, H5P_DEFAULT, layout, H5P_DEFAULT);
  H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nullptr, one, nullptr);
  const float value = 7;
  H5Dwrite(v, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, &value);
  for (const hid_t id : {space, memory, layout, v, file}) H5Idec_ref(id);
  const NetcdfFile read(folder / "a.nc");
  EXPECT_EQ(read.read("v", {59999, 180, 239}, {1, 1, 1}).item<float>(), 7);
  EXPECT_TRUE(std::isnan(read.read("v", {59998, 180, 239}, {1, 1, 1}).item<float>()));
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
