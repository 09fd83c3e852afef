// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/file_summary.hpp>

#include <isobar/core/error.hpp>
#include <isobar/data/cf_time.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "field_moments.hpp"

namespace isobar {
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
  const Moments found = moments_of(values.to(at::kDouble).reshape({-1, 1})).front();
  summary.values += values.numel();
  summary.missing += values.numel() - static_cast<int64_t>(found.count);
  if (found.count == 0) return;
  summary.minimum = std::fmin(summary.minimum, found.minimum);
  summary.maximum = std::fmax(summary.maximum, found.maximum);
}

}  // namespace

bool has_numbers(const VariableInfo& variable) {
  return variable.type.starts_with("int") || variable.type.starts_with("uint") ||
         variable.type.starts_with("float");
}

VariableSummary summarize_variable(const NetcdfFile& file, const VariableInfo& variable,
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

int64_t count_numbers(const NetcdfFile& file) {
  int64_t total = 0;
  for (const auto& [name, variable] : file.variables()) {
    if (!has_numbers(variable) || variable.shape.empty()) continue;
    total += product(variable.shape);
  }
  return total;
}

std::string value_text(const VariableInfo& variable, double value) {
  if (std::isnan(value)) return "-";
  const std::string units = text_attribute(variable, "units");
  try {
    const std::string name = text_attribute(variable, "calendar");
    const Calendar calendar = name.empty() ? Calendar::standard : parse_calendar(name);
    if (units.find(" since ") != std::string::npos && std::isfinite(value)) {
      return format_time(decode_cf_time({value}, units, calendar).front(), calendar);
    }
  } catch (const DataError&) {
    // The number says more than units that cannot be read.
  }
  return fmt::format("{:.7g}", value);
}

}  // namespace isobar
