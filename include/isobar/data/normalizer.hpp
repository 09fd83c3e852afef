// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace isobar {

class Dataset;

/// How a variable is brought to the order of one.
///
/// `mean_std`: (x - mean) / standard deviation; `std`: x / standard deviation;
/// `max`: x / maximum; `min_max`: (x - minimum) / (maximum - minimum);
/// `none`: x.
enum class Normalization { mean_std, std, max, min_max, none };

/// Reads "mean_std", "std", "max", "min_max", "none"; UsageError otherwise.
Normalization parse_normalization(std::string_view name);

/// Of one variable, over points and times without weights; missing values are
/// left out. `stdev` is that of a population (divided by the count).
struct VariableStatistics {
  double mean = 0;
  double stdev = 0;
  double minimum = 0;
  double maximum = 0;
  int64_t count = 0;
};

/// The statistics of every variable over the given times, in double precision (see Moments).
/// Throws DataError for a variable without any value. FieldScan has those of many fields, shared
/// over ranks.
std::vector<VariableStatistics> compute_statistics(const Dataset& dataset,
                                                   const std::vector<int64_t>& time_indices);

/// A linear map for each variable, x · mul + add, and its inverse. Variables
/// are the last dimension of every tensor.
class Normalizer {
 public:
  /// `methods` names the variables that are not normalised by mean_std; an
  /// unknown name is a UsageError, a variable that is constant (so that its
  /// method would divide by zero) a DataError.
  Normalizer(std::vector<std::string> variables, const std::vector<VariableStatistics>& statistics,
             const std::map<std::string, Normalization>& methods = {});

  /// From what tensors() gave. Throws DataError where a tensor is absent or
  /// has not one value a variable.
  static Normalizer from_tensors(std::vector<std::string> variables,
                                 const std::map<std::string, at::Tensor>& tensors);

  const std::vector<std::string>& variables() const noexcept { return variables_; }

  at::Tensor normalize(const at::Tensor& values) const;
  at::Tensor denormalize(const at::Tensor& values) const;

  /// In place.
  void normalize_(at::Tensor values) const;
  void denormalize_(at::Tensor values) const;

  /// "mul" and "add", float32 [variables]; they make the same Normalizer again.
  std::map<std::string, at::Tensor> tensors() const;

 private:
  Normalizer(std::vector<std::string> variables, at::Tensor mul, at::Tensor add);
  void check(const at::Tensor& values) const;

  std::vector<std::string> variables_;
  at::Tensor mul_;
  at::Tensor add_;
};

}  // namespace isobar
