// SPDX-License-Identifier: Apache-2.0
#include "file_kind.hpp"

#include <isobar/core/error.hpp>
#include <isobar/hdf5/handle.hpp>
#include <hdf5.h>

#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace isobar {
namespace {

struct Kind {
  std::string_view magic;
  const char* what;
};

constexpr std::array kKinds = {
    Kind{"CDF\x01",
         "is netCDF-3; convert it with: nccopy -k nc4 -d 1 -s IN.nc OUT.nc, or, where that finds a "
         "'_FillValue type mismatch', with: ncks -4 -L 1 IN.nc OUT.nc"},
    Kind{"GRIB", "is GRIB, not netCDF-4; convert it, for example with grib_to_netcdf -k 4"},
    Kind{"PK\x03\x04",
         "is a ZIP archive (unzip it); it holds files of its own, one for each kind of step "
         "where it comes from the Climate Data Store"},
    Kind{"\x1f\x8b", "is compressed by gzip (gunzip it)"},
    Kind{"BZh", "is compressed by bzip2 (bunzip2 it)"},
    Kind{"\xfd"
         "7zXZ",
         "is compressed by xz (unxz it)"},
    Kind{"\x28\xb5\x2f\xfd", "is compressed by zstd (unzstd it)"},
    Kind{"\x0e\x03\x13\x01", "is HDF4, not HDF5; convert it with: h4toh5 IN.hdf OUT.nc"},
    Kind{"version https://git-lfs",
         "is a Git LFS pointer; fetch the file itself with: git lfs pull"},
};

/// The first line of a file that begins with text, shortened; "" for others.
std::string first_words(const std::string& start) {
  std::string words;
  for (const char c : start) {
    if (c == '\n' || c == '\r') break;
    if (c != '\t' && std::isprint(static_cast<unsigned char>(c)) == 0) return {};
    words += c;
  }
  return words.substr(0, 40);
}

std::string kind_of(const std::string& start) {
  if (start.empty()) return "is empty, not a netCDF file";
  const std::string classic = start.starts_with("CDF") ? "CDF\x01" : start;
  for (const Kind& kind : kKinds) {
    if (classic.starts_with(kind.magic)) return kind.what;
  }
  const std::string words = first_words(start);
  if (words.empty()) return "is not HDF5, and so not netCDF-4";
  return detail::join("is not HDF5, and so not netCDF-4: it begins with '", words,
                      words.starts_with("<") ? "', an error page of a server, perhaps" : "'");
}

}  // namespace

void check_is_hdf5(const std::string& path) {
  const auto fail = [&](const std::string& why) { throw DataError(path + ": " + why); };
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) fail("no such file");
  if (std::filesystem::is_directory(path, ignored)) fail("is a folder, not a netCDF file");
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot be opened for reading; check its permissions");
  std::array<char, 80> bytes{};
  file.read(bytes.data(), bytes.size());
  const std::string start(bytes.data(), static_cast<std::size_t>(file.gcount()));
  {
    const Hdf5Session session;
    if (H5Fis_hdf5(path.c_str()) > 0) return;
  }
  fail(kind_of(start));
}

}  // namespace isobar
