// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/netcdf.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace isobar::detail {

/// What lies in a variable, decoded.
struct VariableSummary {
  int64_t values = 0;
  int64_t missing = 0;
  double minimum = 0;  ///< of those that are not missing; NaN where there is none
  double maximum = 0;
  /// Why the values could not be read, or could only up to some place; empty where they could.
  std::string error;
};

/// Whether a variable holds numbers.
bool has_numbers(const VariableInfo& variable);

/// Reads a variable of numbers in parts of some 64 MiB; `read` is told of the values of each.
VariableSummary summarize(const NetcdfFile& file, const VariableInfo& variable,
                          const std::function<void(int64_t)>& read = nullptr);

}  // namespace isobar::detail
