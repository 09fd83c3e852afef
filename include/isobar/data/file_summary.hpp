// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/netcdf.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace isobar {

/// What lies in a variable, decoded.
struct VariableSummary {
  int64_t values = 0;
  int64_t missing = 0;
  double minimum = 0;  ///< of those that are not missing; NaN where there is none
  double maximum = 0;
  /// Why the values could not be read, or could only up to some place; empty where they could.
  std::string error;
};

/// Whether a variable holds numbers, as opposed to text and compounds.
bool has_numbers(const VariableInfo& variable);

/// Reads a variable of numbers in parts of some 64 MiB; `read` is told how many values each had.
/// What cannot be read is in the summary's error, not thrown.
VariableSummary summarize_variable(const NetcdfFile& file, const VariableInfo& variable,
                                   const std::function<void(int64_t)>& read = nullptr);

/// How many values summarize_variable() tells of, over all variables of numbers.
int64_t count_numbers(const NetcdfFile& file);

/// A value for people: the moment that it stands for where the variable's units say so, else the
/// number; "-" where it is missing.
std::string value_text(const VariableInfo& variable, double value);

}  // namespace isobar
