// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace isobar::test {

/// A variable to write, and how HDF5 is to store it.
struct NcVariable {
  std::string name = {};
  std::vector<std::string> dimensions = {};
  /// Row-major; may be left empty for a chunked variable, none of whose chunks
  /// is then stored.
  std::vector<double> values = {};
  hid_t type = H5T_IEEE_F32LE;
  /// Chunk lengths; empty for a contiguous variable.
  std::vector<hsize_t> chunk = {};
  int deflate = -1;
  bool shuffle = false;
  bool fletcher32 = false;
  /// A filter of HDF5's registry to add, 0 for none.
  H5Z_filter_t filter = 0;
  /// What HDF5 gives for chunks that are not stored.
  double fill = 0;
  /// Whether the lengths may change; for chunked variables.
  bool unlimited = false;
  /// As netCDF has it with fill off: HDF5 has no fill value, and writes none.
  bool fill_off = false;
};

/// Writes small files as netCDF-4 lays them out, for tests to read.
class NcWriter {
 public:
  NcWriter(const std::string& path, std::map<std::string, hsize_t> dimensions);
  ~NcWriter();
  NcWriter(const NcWriter&) = delete;
  NcWriter& operator=(const NcWriter&) = delete;

  /// A name with slashes makes groups. A variable named as its one dimension
  /// becomes that dimension's scale.
  void add(const NcVariable& variable);

  void text(const std::string& variable, const std::string& name, const std::string& value);
  void vlen_text(const std::string& variable, const std::string& name, const std::string& value);
  void number(const std::string& variable, const std::string& name, double value,
              hid_t type = H5T_IEEE_F64LE);
  void numbers(const std::string& variable, const std::string& name,
               const std::vector<double>& values, hid_t type = H5T_IEEE_F64LE);
  /// A coordinate of words, one a position of the dimension of its name.
  void add_texts(const std::string& dimension, const std::vector<std::string>& values);
  /// Whole numbers, such as _Netcdf4Dimid's.
  void integers(const std::string& variable, const std::string& name,
                const std::vector<int>& values);

  /// A dimension without a variable, as netCDF-4 keeps it.
  void dimension_only(const std::string& name);

  /// Writes DIMENSION_LIST, by which a variable names its dimensions.
  void attach_dimensions(const std::string& variable);

 private:
  hid_t file_;
  std::map<std::string, hsize_t> lengths_;
  std::map<std::string, std::vector<std::string>> dimensions_;
};

/// A data set of one or several variables on a small grid.
struct WeatherFile {
  std::vector<std::string> variables = {"t"};
  /// Hours since 2019-03-01.
  std::vector<double> hours = {0, 1, 2};
  std::vector<double> latitudes = {50, 49};
  std::vector<double> longitudes = {-1, 0, 1};
  std::vector<std::string> order = {"time", "latitude", "longitude"};
  std::string calendar = "proleptic_gregorian";
  std::string units = "K";
  std::vector<hsize_t> chunk = {};
  int deflate = -1;
  /// Whether the variables may become longer or shorter.
  bool unlimited = false;
  /// Of a variable's number, an hour and a point, in the order of the file; else weather_value().
  std::function<double(int variable, double hour, int64_t point)> value = nullptr;
};

/// What write_weather stores of variable number v: a value that tells where it
/// comes from, exact in float32.
double weather_value(int variable, double hour, double latitude, double longitude);

void write_weather(const std::string& path, const WeatherFile& weather);

/// `t` at two times and two levels (850 and 500 hPa) on 2 x 2 points, 1 everywhere.
void write_with_levels(const std::string& path);

/// Hours of one variable on 128 x 256 points, whose fields are larger than what HDF5 keeps of a
/// file by itself: of what is overwritten nothing is read any more.
WeatherFile large_weather(int64_t hours);

}  // namespace isobar::test
