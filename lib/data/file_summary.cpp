// SPDX-License-Identifier: Apache-2.0
#include "file_summary.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace isobar::detail {
namespace {

constexpr int64_t kPartBytes = int64_t{64} << 20;

int64_t product(const std::vector<int64_t>& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), int64_t{1}, std::multiplies<>());
}

/// Positions of the first dimension that are read at once: whole chunks where these fit.
int64_t part_length(const VariableInfo& variable) {
  const int64_t row = std::max<int64_t>(1, product(variable.shape) / variable.shape.front());
  const int64_t most =
      std::max<int64_t>(1, kPartBytes / (static_cast<int64_t>(sizeof(double)) * row));
  const int64_t chunk = variable.chunk.empty() ? 1 : variable.chunk.front();
  return most < chunk ? most : most / chunk * chunk;
}

void take(VariableSummary& summary, const at::Tensor& values) {
  const at::Tensor numbers = values.to(at::kDouble).flatten();
  const at::Tensor present = numbers.masked_select(numbers.isnan().logical_not());
  summary.values += numbers.numel();
  summary.missing += numbers.numel() - present.numel();
  if (present.numel() == 0) return;
  summary.minimum = std::fmin(summary.minimum, present.min().item<double>());
  summary.maximum = std::fmax(summary.maximum, present.max().item<double>());
}

}  // namespace

bool has_numbers(const VariableInfo& variable) {
  return variable.type.starts_with("int") || variable.type.starts_with("uint") ||
         variable.type.starts_with("float");
}

VariableSummary summarize(const NetcdfFile& file, const VariableInfo& variable,
                          const std::function<void(int64_t)>& read) {
  VariableSummary summary;
  summary.minimum = summary.maximum = std::numeric_limits<double>::quiet_NaN();
  try {
    if (variable.shape.empty()) {
      take(summary, file.read(variable.name));
      return summary;
    }
    if (product(variable.shape) == 0) return summary;
    std::vector<int64_t> start(variable.shape.size(), 0), count = variable.shape;
    const int64_t part = part_length(variable);
    for (; start.front() < variable.shape.front(); start.front() += part) {
      count.front() = std::min(part, variable.shape.front() - start.front());
      take(summary, file.read(variable.name, start, count));
      if (read) read(product(count));
    }
  } catch (const DataError& error) {
    summary.error = error.what();
  }
  return summary;
}

}  // namespace isobar::detail
