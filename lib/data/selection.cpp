// SPDX-License-Identifier: Apache-2.0
#include "selection.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <sstream>

#include "coordinates.hpp"

namespace isobar {
namespace {

constexpr std::size_t kShownValues = 20;

int64_t length_of(const VariableInfo& variable, const std::string& dimension) {
  const auto& names = variable.dimensions;
  return variable.shape[std::find(names.begin(), names.end(), dimension) - names.begin()];
}

/// What the positions along a dimension are called.
struct Labels {
  std::vector<std::string> texts;
  std::string units;
};

Labels labels_of(const NetcdfFile& file, const VariableInfo& variable,
                 const std::string& dimension) {
  const int64_t length = length_of(variable, dimension);
  const std::string name = coordinate_of(file, variable, dimension);
  Labels labels;
  if (!name.empty() && file.variable(name).shape == std::vector<int64_t>{length}) {
    const VariableInfo& coordinate = file.variable(name);
    labels.units = text_attribute(coordinate, "units");
    if (coordinate.type == "string" || coordinate.type == "char") {
      labels.texts = file.read_text(name);
      return labels;
    }
    const at::Tensor values = file.read_coordinate(name);
    for (int64_t i = 0; i < length; ++i) {
      labels.texts.push_back(fmt::format("{}", values[i].item<double>()));
    }
    return labels;
  }
  for (int64_t i = 0; i < length; ++i) labels.texts.push_back(std::to_string(i));
  return labels;
}

std::string shown(Labels labels) {
  const std::size_t count = labels.texts.size();
  if (count > kShownValues) {
    labels.texts.resize(kShownValues);
    labels.texts.emplace_back("...");
  }
  const std::string units = labels.units.empty() || labels.units == "1" ? "" : " " + labels.units;
  return detail::join(count, count == 1 ? " value (" : " values (", join_words(labels.texts), units,
                      ")");
}

std::optional<double> number_in(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0') return std::nullopt;
  return number;
}

/// 850 is 850.0, and 1 is the version "0001".
bool same_value(const std::string& a, const std::string& b) {
  if (a == b) return true;
  const auto x = number_in(a), y = number_in(b);
  return x && y && std::abs(*x - *y) <= 1e-6 * std::max(1.0, std::abs(*y));
}

std::vector<std::string> parts_of(const std::string& values) {
  std::vector<std::string> parts;
  std::istringstream text(values);
  for (std::string part; std::getline(text, part, ',');) {
    const std::size_t first = part.find_first_not_of(' ');
    if (first == std::string::npos) continue;
    parts.push_back(part.substr(first, part.find_last_not_of(' ') - first + 1));
  }
  return parts;
}

int64_t position_of(const NetcdfFile& file, const VariableInfo& variable,
                    const std::string& dimension, const std::string& value) {
  const Labels labels = labels_of(file, variable, dimension);
  const auto& texts = labels.texts;
  const auto found = std::find_if(texts.begin(), texts.end(),
                                  [&](const std::string& text) { return same_value(text, value); });
  if (found != texts.end()) return found - texts.begin();
  throw DataError(detail::join(file.path(), ": data.select.", dimension, ": ", value,
                               " is not there; variable '", variable.name, "' has ",
                               shown(labels)));
}

}  // namespace

Selected find_selected(const NetcdfFile& file, const std::vector<std::string>& variables,
                       const std::map<std::string, std::string>& select) {
  Selected positions;
  std::vector<std::string> known;
  for (const std::string& name : variables) {
    const VariableInfo& variable = file.variable(name);
    for (const std::string& dimension : variable.dimensions) {
      if (std::find(known.begin(), known.end(), dimension) == known.end())
        known.push_back(dimension);
      const auto wanted = select.find(dimension);
      if (wanted == select.end() || positions.count(dimension) > 0) continue;
      for (const std::string& value : parts_of(wanted->second)) {
        positions[dimension].push_back(position_of(file, variable, dimension, value));
      }
    }
  }
  for (const auto& [dimension, value] : select) {
    ISOBAR_CHECK(!parts_of(value).empty(), "data.select.", dimension, ": no value given");
    if (positions.count(dimension) > 0) continue;
    throw DataError(detail::join(file.path(), ": data.select.", dimension,
                                 ": no variable has such a "
                                 "dimension; ",
                                 did_you_mean(dimension, known)));
  }
  return positions;
}

void fail_unselected(const NetcdfFile& file, const VariableInfo& variable,
                     const std::string& dimension) {
  const Labels labels = labels_of(file, variable, dimension);
  throw DataError(detail::join(file.path(), ": variable '", variable.name, "' has ", shown(labels),
                               " of '", dimension, "'; choose one with data.select.", dimension,
                               "=", labels.texts.front()));
}

}  // namespace isobar
