// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/hdf5/variable.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// A netCDF-4 file, opened for reading through HDF5.
///
/// Files that netCDF-4 did not write are read too, as long as they are HDF5.
/// HDF5 is serialised within the process by one lock, so any thread may call
/// any function, and none gains speed by it. Every failure is a DataError of
/// one line with the file, the object and HDF5's first cause; HDF5 itself
/// prints nothing.
class NetcdfFile {
 public:
  /// Opens the file and reads what it says of its variables, not their values.
  explicit NetcdfFile(std::string path);
  ~NetcdfFile();
  NetcdfFile(NetcdfFile&&) noexcept;
  NetcdfFile& operator=(NetcdfFile&&) noexcept;

  const std::string& path() const noexcept;

  /// All variables of all groups, by path. Dimensions without a variable are
  /// not among them.
  const std::map<std::string, VariableInfo>& variables() const noexcept;

  bool has(const std::string& name) const noexcept;

  /// Throws DataError with the nearest name where there is no such variable.
  const VariableInfo& variable(const std::string& name) const;

  /// The values of a hyperslab, decoded, with the shape `count`.
  ///
  /// float32 for float variables and for packed integers, float64 for double
  /// variables and for integers that are not packed (a float would not hold a
  /// time). scale_factor and add_offset are applied in double precision and
  /// rounded once. NaN where the stored value is missing: equal to _FillValue (where
  /// it is not given and fill is not off, to netCDF's default fill of a type wider
  /// than a byte) or missing_value, outside valid_range, valid_min or valid_max, or in
  /// a chunk that was never written. Attributes count in the signedness that
  /// _Unsigned asks for. Throws DataError for text and other values that are no
  /// numbers, and for limits that are none.
  at::Tensor read(const std::string& name, const std::vector<int64_t>& start,
                  const std::vector<int64_t>& count) const;

  /// All values of the variable.
  at::Tensor read(const std::string& name) const;

  /// All values of a coordinate, float64 whatever is stored, so that packed times and
  /// positions lose nothing; limits of validity are not looked at.
  at::Tensor read_coordinate(const std::string& name) const;

  /// All values of a variable of text.
  std::vector<std::string> read_text(const std::string& name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
