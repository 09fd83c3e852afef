// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/netcdf.hpp>
#include <ATen/core/Tensor.h>

#include <vector>

namespace isobar::detail {

/// How stored values become physical ones.
struct Decoding {
  /// Stored values that mean 'missing'.
  std::vector<double> missing;
  double scale = 1;
  double offset = 0;
  /// Added to negative stored values: netCDF's _Unsigned.
  double wrap = 0;
  /// Whether scale and offset apply.
  bool packed = false;
  /// Whether the result is float32.
  bool single = false;
};

/// What the attributes of a variable of numbers ask for; DataError for others.
Decoding decoding_of(const VariableInfo& variable, const std::string& path);

/// Decodes stored values, float64 or (where nothing is packed) float32, in
/// place where it can.
at::Tensor decode(at::Tensor stored, const Decoding& decoding);

}  // namespace isobar::detail
