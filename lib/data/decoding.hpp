// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/netcdf.hpp>
#include <ATen/core/Tensor.h>

#include <limits>
#include <string>
#include <vector>

namespace isobar {

/// How stored values become physical ones: netCDF's Attribute Conventions,
/// https://docs.unidata.ucar.edu/nug/current/attribute_conventions.html.
struct Decoding {
  /// Integers of the other signedness than they are stored in (_Unsigned): those outside
  /// [lowest, lowest + count) are brought there by `count`; none where it is 0.
  struct Signedness {
    double lowest = 0;
    double count = 0;
  };
  /// Values outside are missing.
  struct Limits {
    double lowest = -std::numeric_limits<double>::infinity();
    double highest = std::numeric_limits<double>::infinity();
  };

  Signedness signedness;
  /// What follows is in terms of stored values whose signedness is right.
  std::vector<double> missing;
  Limits stored_limits;
  double scale = 1;
  double offset = 0;
  /// Whether scale and offset apply, and then the limits of what they give.
  bool packed = false;
  Limits unpacked_limits;
  /// Whether the result is float32.
  bool single = false;
};

/// What the attributes of a variable of numbers ask for; DataError for others.
Decoding decoding_of(const VariableInfo& variable, const std::string& path);

/// The same for a coordinate: float64 to the end, and none is missing for its limits.
Decoding coordinate_decoding_of(const VariableInfo& variable, const std::string& path);

/// Between which limits decoded values lie for what the file declares (valid_range, valid_min,
/// valid_max); infinite where it does not.
Decoding::Limits declared_limits(const Decoding& decoding);

/// Decodes stored values, float64 or (where nothing is packed) float32, in
/// place where it can.
at::Tensor decode(at::Tensor stored, const Decoding& decoding);

}  // namespace isobar
