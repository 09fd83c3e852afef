// SPDX-License-Identifier: Apache-2.0
// Made where data are opened, from statistics or from what a checkpoint holds; SampleSet applies it
// on the loaders' threads. Never changes after construction.
//
// mul and add are float32 and are saved as they are, so that a forecast from a checkpoint sees
// fields of the same bits as training did. A scale that float32 cannot hold is refused here, by the
// variable's name: later it would be a loss that is not finite, of which nobody could say why.
#include <isobar/data/normalizer.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <isobar/data/dataset.hpp>
#include <isobar/data/float_step.hpp>
#include "field_moments.hpp"

namespace isobar {
namespace {

constexpr std::array<std::pair<std::string_view, Normalization>, 5> kMethods = {
    {{"mean_std", Normalization::mean_std},
     {"std", Normalization::std},
     {"max", Normalization::max},
     {"min_max", Normalization::min_max},
     {"none", Normalization::none}}};

/// x · mul + add.
struct Line {
  double mul = 1;
  double add = 0;
};

Line line_of(Normalization method, const VariableStatistics& s) {
  switch (method) {
    case Normalization::mean_std:
      return {1 / s.stdev, -s.mean / s.stdev};
    case Normalization::std:
      return {1 / s.stdev, 0};
    case Normalization::max:
      return {1 / s.maximum, 0};
    case Normalization::min_max:
      return {1 / (s.maximum - s.minimum), -s.minimum / (s.maximum - s.minimum)};
    case Normalization::none:
      break;
  }
  return {};
}

Line checked_line(const std::string& name, Normalization method, const VariableStatistics& s) {
  // In single precision, as it is used: a spread that underflows is none.
  const Line line = line_of(method, s);
  if (std::isfinite(static_cast<float>(line.mul)) && std::isfinite(static_cast<float>(line.add)))
    return line;
  const char* advice = ", so it has no scale; give it the method none or leave it out";
  if (s.minimum < s.maximum) {
    throw DataError(detail::join("Normalizer: variable '", name, "' has a deviation of ", s.stdev,
                                 " (minimum ", s.minimum, ", maximum ", s.maximum,
                                 "), too small for float32", advice));
  }
  throw DataError(detail::join(
      "Normalizer: variable '", name, "' is constant (minimum ", s.minimum, ", maximum ", s.maximum,
      ") as float32, whose steps there are ", float_step(s.minimum, s.maximum), advice,
      ". If its values differ by less in the file, subtract a constant there"));
}

at::Tensor named(const std::map<std::string, at::Tensor>& tensors, const std::string& name,
                 int64_t variables) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError("Normalizer: tensor '" + name + "' is missing");
  if (found->second.dim() != 1 || found->second.size(0) != variables) {
    throw DataError(detail::join("Normalizer: tensor '", name, "' has ", found->second.numel(),
                                 " values for ", variables, " variables"));
  }
  return found->second.to(at::kFloat).contiguous().clone();
}

}  // namespace

Normalization parse_normalization(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& [known, method] : kMethods) {
    if (known == name) return method;
    names.emplace_back(known);
  }
  throw UsageError(detail::join("unknown normalization '", name, "'; ", did_you_mean(name, names)));
}

std::vector<VariableStatistics> compute_statistics(const Dataset& dataset,
                                                   const std::vector<int64_t>& time_indices) {
  std::vector<Moments> totals(dataset.variables().size());
  for (const int64_t index : time_indices) {
    const auto moments = moments_of(dataset.read(index));
    for (std::size_t v = 0; v < totals.size(); ++v) totals[v].join(moments[v]);
  }
  std::vector<VariableStatistics> statistics;
  for (std::size_t v = 0; v < totals.size(); ++v) {
    const Moments& m = totals[v];
    if (m.count == 0) {
      throw DataError(detail::join("statistics: variable '", dataset.variables()[v],
                                   "' has no value at the ", time_indices.size(), " times given"));
    }
    statistics.push_back(
        {m.mean, m.deviation(), m.minimum, m.maximum, static_cast<int64_t>(m.count)});
  }
  return statistics;
}

Normalizer::Normalizer(std::vector<std::string> variables,
                       const std::vector<VariableStatistics>& statistics,
                       const std::map<std::string, Normalization>& methods)
    : variables_(std::move(variables)) {
  ISOBAR_CHECK(statistics.size() == variables_.size(), "Normalizer: ", statistics.size(),
               " statistics for ", variables_.size(), " variables");
  for (const auto& [name, method] : methods) {
    ISOBAR_CHECK(std::find(variables_.begin(), variables_.end(), name) != variables_.end(),
                 "Normalizer: method for unknown variable '", name, "'; ",
                 did_you_mean(name, variables_));
  }
  mul_ = at::empty({static_cast<int64_t>(variables_.size())}, at::kFloat);
  add_ = at::empty_like(mul_);
  for (std::size_t v = 0; v < variables_.size(); ++v) {
    const auto given = methods.find(variables_[v]);
    const Normalization method = given == methods.end() ? Normalization::mean_std : given->second;
    const Line line = checked_line(variables_[v], method, statistics[v]);
    mul_.data_ptr<float>()[v] = static_cast<float>(line.mul);
    add_.data_ptr<float>()[v] = static_cast<float>(line.add);
  }
}

Normalizer::Normalizer(std::vector<std::string> variables, at::Tensor mul, at::Tensor add)
    : variables_(std::move(variables)), mul_(std::move(mul)), add_(std::move(add)) {}

Normalizer Normalizer::from_tensors(std::vector<std::string> variables,
                                    const std::map<std::string, at::Tensor>& tensors) {
  const auto count = static_cast<int64_t>(variables.size());
  return {std::move(variables), named(tensors, "mul", count), named(tensors, "add", count)};
}

void Normalizer::check(const at::Tensor& values) const {
  ISOBAR_CHECK(values.dim() >= 1 && values.size(-1) == mul_.size(0), "Normalizer: ", mul_.size(0),
               " variables, got a tensor whose last dimension has ",
               values.dim() == 0 ? 0 : values.size(-1));
}

at::Tensor Normalizer::normalize(const at::Tensor& values) const {
  at::Tensor result = values.clone();
  normalize_(result);
  return result;
}

at::Tensor Normalizer::denormalize(const at::Tensor& values) const {
  at::Tensor result = values.clone();
  denormalize_(result);
  return result;
}

void Normalizer::normalize_(at::Tensor values) const {
  check(values);
  values.mul_(mul_.to(values.device())).add_(add_.to(values.device()));
}

void Normalizer::denormalize_(at::Tensor values) const {
  check(values);
  values.sub_(add_.to(values.device())).div_(mul_.to(values.device()));
}

std::map<std::string, at::Tensor> Normalizer::tensors() const {
  return {{"mul", mul_.clone()}, {"add", add_.clone()}};
}

}  // namespace isobar
