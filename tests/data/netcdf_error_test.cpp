// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/netcdf.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <filesystem>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::netcdf_error_test {
namespace {

using test::message_of;
using test::NcWriter;
using test::TemporaryFolder;
using test::write_file;

std::string opening_says(const std::filesystem::path& path) {
  const std::string message = message_of<DataError>([&] { NetcdfFile{path}; });
  EXPECT_EQ(message.find(path.string()), 0) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(NetcdfErrors, SayWhatAFileIsInstead) {
  const TemporaryFolder folder;
  write_file(folder / "classic.nc", std::string("CDF\x02\0\0\0\0", 8));
  write_file(folder / "a.grib", "GRIB....");
  write_file(folder / "text", "temperature");
  write_file(folder / "empty", "");
  write_file(folder / "zipped", std::string("PK\x03\x04\x14\0\0\0", 8));
  write_file(folder / "packed", "\x1f\x8b\x08");
  write_file(folder / "page", "<!DOCTYPE html><html><body>401 Unauthorized</body></html>");
  EXPECT_TRUE(contains(opening_says(folder / "zipped"), "is a ZIP archive (unzip it)"));
  EXPECT_TRUE(contains(opening_says(folder / "packed"), "is compressed by gzip (gunzip it)"));
  EXPECT_TRUE(contains(opening_says(folder / "page"), "begins with '<!DOCTYPE html"));
  EXPECT_TRUE(contains(opening_says(folder / "text"), "begins with 'temperature'"));
  EXPECT_TRUE(contains(opening_says(folder / "classic.nc"), "nccopy -k nc4"));
  EXPECT_TRUE(contains(opening_says(folder / "classic.nc"), "ncks -4")) << "for an odd _FillValue";
  EXPECT_TRUE(contains(opening_says(folder / "a.grib"), "is GRIB"));
  EXPECT_TRUE(contains(opening_says(folder / "text"), "is not HDF5"));
  EXPECT_TRUE(contains(opening_says(folder / "empty"), "is empty"));
  EXPECT_TRUE(contains(opening_says(folder / "absent"), "no such file"));
  EXPECT_TRUE(contains(opening_says(folder.path()), "is a folder"));
}

TEST(NetcdfErrors, NameTheNearestVariable) {
  const NetcdfFile file(ISOBAR_EXAMPLE_DATA);
  const std::string message = message_of<DataError>([&] { file.read("t2mm"); });
  EXPECT_TRUE(contains(message, "no variable 't2mm'; did you mean 't2m'?")) << message;
}

TEST(NetcdfErrors, SayThatTextIsNoNumber) {
  const NetcdfFile file(ISOBAR_EXAMPLE_DATA);
  const std::string message = message_of<DataError>([&] { file.read("expver"); });
  EXPECT_TRUE(contains(message, "'expver' holds values of type string")) << message;
}

TEST(NetcdfErrors, NameTheDimensionThatARangeLeaves) {
  const NetcdfFile file(ISOBAR_EXAMPLE_DATA);
  const std::string message = message_of<UsageError>([&] {
    file.read("t2m", {740, 0, 0}, {5, 33, 49});
  });
  EXPECT_TRUE(contains(message, "'valid_time' of length 744: read got start 740, count 5"))
      << message;
}

TEST(NetcdfErrors, RefuseAScaleThatIsNoNumber) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 1}});
    writer.add({.name = "v", .dimensions = {"x"}, .values = {1}, .type = H5T_STD_I16LE});
    writer.text("v", "scale_factor", "big");
  }
  const NetcdfFile file(folder / "a.nc");
  const std::string message = message_of<DataError>([&] { file.read("v"); });
  EXPECT_TRUE(contains(message, "scale_factor is not one number")) << message;
}

TEST(NetcdfErrors, RefuseLimitsThatAreNone) {
  const TemporaryFolder folder;
  {
    NcWriter writer(folder / "a.nc", {{"x", 1}});
    writer.add({.name = "v", .dimensions = {"x"}, .values = {1}});
    writer.numbers("v", "valid_range", {5, 1});
  }
  const std::string message = message_of<DataError>([&] { NetcdfFile(folder / "a.nc").read("v"); });
  EXPECT_TRUE(contains(message, "valid_range is not a lowest and a highest number")) << message;
  EXPECT_TRUE(contains(message, "ncatted -a valid_range,v,d,,")) << message;
}

std::size_t copy_bytes(unsigned, std::size_t, const unsigned*, std::size_t bytes, std::size_t*,
                       void**) {
  return bytes;
}

TEST(NetcdfErrors, NameAFilterThatHdf5Lacks) {
  const TemporaryFolder folder;
  constexpr H5Z_filter_t kZstandard = 32015;
  const H5Z_class2_t filter{H5Z_CLASS_T_VERS, kZstandard, 1,       1,
                            "zstd",           nullptr,    nullptr, copy_bytes};
  ASSERT_GE(H5Zregister(&filter), 0);
  {
    NcWriter writer(folder / "a.nc", {{"x", 2}});
    writer.add(
        {.name = "v", .dimensions = {"x"}, .values = {1, 2}, .chunk = {2}, .filter = kZstandard});
  }
  H5Zunregister(kZstandard);
  const NetcdfFile file(folder / "a.nc");
  const std::string message = message_of<DataError>([&] { file.read("v"); });
  EXPECT_TRUE(contains(message, "variable 'v': is compressed by Zstandard (filter 32015)"))
      << message;
}

herr_t own_reporter(hid_t, void* calls) {
  ++*static_cast<int*>(calls);
  return 0;
}

TEST(NetcdfErrors, LeaveHdf5sErrorReportingAsItWas) {
  const TemporaryFolder folder;
  write_file(folder / "text", "temperature");
  int calls = 0;
  H5Eset_auto2(H5E_DEFAULT, own_reporter, &calls);
  opening_says(folder / "text");
  EXPECT_EQ(calls, 0);
  H5Fopen((folder / "text").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  EXPECT_EQ(calls, 1);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

/// Whether the file either reads as it should or is refused by a DataError.
bool reads_right_or_throws(const std::filesystem::path& path, const at::Tensor& wanted,
                           int& refused) {
  try {
    return at::equal(NetcdfFile(path).read("t2m"), wanted);
  } catch (const DataError&) {
    ++refused;
    return true;
  }
}

TEST(NetcdfErrors, RefuseAFileTruncatedAnywhere) {
  const TemporaryFolder folder;
  const at::Tensor wanted = NetcdfFile(ISOBAR_EXAMPLE_DATA).read("t2m");
  std::filesystem::copy_file(ISOBAR_EXAMPLE_DATA, folder / "a.nc");
  const auto whole = static_cast<int64_t>(std::filesystem::file_size(folder / "a.nc"));
  std::vector<int64_t> lengths = {whole - 1, whole - 100, 4096, 512, 96, 48, 9, 8, 7, 4, 3, 1, 0};
  for (int64_t part = 1; part < 150; ++part) lengths.push_back(whole * part / 150);
  std::sort(lengths.rbegin(), lengths.rend());
  int refused = 0;
  for (const int64_t length : lengths) {
    std::filesystem::resize_file(folder / "a.nc", static_cast<std::uintmax_t>(length));
    EXPECT_TRUE(reads_right_or_throws(folder / "a.nc", wanted, refused)) << length;
  }
  EXPECT_EQ(refused, static_cast<int>(lengths.size()));
}

TEST(NetcdfErrors, RefuseAFileWhoseNamesAreGone) {
  const TemporaryFolder folder;
  std::string bytes = test::read_file(ISOBAR_TEST_FILES "/era5_packed_sfc_1995-07-14T12.nc");
  // Everything but the superblock, which says how long the file has to be.
  write_file(folder / "a.nc", bytes.replace(512, bytes.size() - 512, bytes.size() - 512, '\0'));
  opening_says(folder / "a.nc");
}

TEST(NetcdfErrors, RefuseALargeGroupWhoseNamesAreGone) {
  // Groups of more than eight links keep their names apart, in what netCDF-4's
  // files have: groups that track the order of creation.
  const TemporaryFolder folder;
  const hid_t tracking = H5Pcreate(H5P_FILE_CREATE);
  H5Pset_link_creation_order(tracking, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  const hid_t file = H5Fcreate((folder / "a.nc").c_str(), H5F_ACC_TRUNC, tracking, H5P_DEFAULT);
  for (char name = 'a'; name <= 'm'; ++name) {
    H5Gclose(H5Gcreate2(file, std::string(1, name).c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  }
  H5Fclose(file);
  H5Pclose(tracking);
  const std::string whole = test::read_file(folder / "a.nc");
  for (std::size_t kept = 200; kept < whole.size() / 2; kept += 300) {
    write_file(folder / "a.nc", whole.substr(0, kept) + std::string(whole.size() - kept, '\0'));
    EXPECT_THROW(NetcdfFile(folder / "a.nc"), DataError) << kept;
  }
}

TEST(NetcdfErrors, RefuseDataThatEndInZeros) {
  // What an interrupted copy leaves where the file's length was set first.
  const TemporaryFolder folder;
  const std::string bytes = test::read_file(ISOBAR_EXAMPLE_DATA);
  std::string zeros = bytes;
  zeros.replace(bytes.size() / 2, bytes.size() / 4, std::string(bytes.size() / 4, '\0'));
  write_file(folder / "a.nc", zeros);
  const std::string message =
      message_of<DataError>([&] { NetcdfFile(folder / "a.nc").read("t2m"); });
  EXPECT_TRUE(contains(message, "variable 't2m': cannot be read, truncated or damaged")) << message;
}

}  // namespace
}  // namespace isobar::netcdf_error_test
