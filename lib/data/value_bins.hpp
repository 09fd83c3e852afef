// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace isobar {

/// A few of a variable's values that lie far outside all others, on one side.
struct FarValues {
  int64_t count = 0, first_time = 0;
  double minimum = 0, maximum = 0;
  double others_minimum = 0, others_maximum = 0;
};

/// For people, without the time: "43 values from -999 to -999, far outside all others, ...".
std::string text_of(const FarValues& far);

/// Where the values of several variables lie: bins of an eighth of an octave, with the number,
/// range and first time of what fell into each.
///
/// Which bin a value belongs to is a function of the value alone, so that shares of the fields are
/// put together exactly, in any order: `counts` summed, `first_times` and `minima` by minimum,
/// `maxima` by maximum.
class ValueBins {
 public:
  explicit ValueBins(int64_t variables);

  /// The values of a field, [points, variables] float32, without the missing ones (NaN).
  void add(const at::Tensor& field, int64_t time);

  /// The smaller part of the variable's values, where a gap divides it from the rest that is more
  /// than ten times as wide as all of the rest: such as -999 beside temperatures. A rest of one
  /// single value has no width to judge by.
  std::optional<FarValues> far_values(int64_t variable) const;

  at::Tensor counts;       ///< int64 [variables, bins]
  at::Tensor first_times;  ///< int64, the greatest of all where there is none
  at::Tensor minima;       ///< float64, infinite where there is none
  at::Tensor maxima;
};

}  // namespace isobar
