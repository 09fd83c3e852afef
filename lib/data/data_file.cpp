// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/data_file.hpp>

#include <isobar/core/error.hpp>
#include <isobar/data/netcdf.hpp>
#include <ATen/ATen.h>

#include <algorithm>

#include "coordinates.hpp"

namespace isobar {
namespace {

constexpr int64_t kLookedAt = 8;  // times, spread over the file

/// Why a variable cannot stand beside those found before; empty where it can.
std::string refusal(const std::string& path, std::vector<std::string> variables,
                    const std::string& name) {
  variables.push_back(name);
  try {
    const Dataset trial({.paths = {path}, .variables = variables, .allow_missing = true});
    return trial.times().size() > 1 ? "" : "has one time only";
  } catch (const Error& error) {
    const std::string text = error.what();
    return text.rfind(path + ": ", 0) == 0 ? text.substr(path.size() + 2) : text;
  }
}

bool is_coordinate(const VariableInfo& variable) {
  const auto is_axis = variable.dimensions.size() <= 1;
  return is_axis || variable.type == "string";
}

bool has_spread(const at::Tensor& values) {
  const auto present = values.masked_select(values.isnan().logical_not());
  return present.numel() > 0 && (present != present[0]).any().item<bool>();
}

/// Sorts the variables by whether a point changes between the times that are looked at.
void look_at_values(const std::vector<std::string>& variables, DataFile& file) {
  const Dataset data({.paths = {file.path}, .variables = variables, .allow_missing = true});
  const auto count = static_cast<int64_t>(data.times().size());
  const auto first = data.read(0);  // [points, variables]
  auto changes = at::zeros({static_cast<int64_t>(variables.size())}, at::kBool);
  file.has_missing = first.isnan().any().item<bool>();
  for (int64_t i = 1; i < std::min(kLookedAt, count); ++i) {
    const auto fields = data.read(i * (count - 1) / (std::min(kLookedAt, count) - 1));
    file.has_missing = file.has_missing || fields.isnan().any().item<bool>();
    changes.logical_or_((fields - first).nan_to_num(0).ne(0).any(0));
  }
  for (size_t v = 0; v < variables.size(); ++v) {
    const bool change = changes[static_cast<int64_t>(v)].item<bool>();
    if (change) {
      file.changing.push_back(variables[v]);
    } else if (has_spread(first.select(1, static_cast<int64_t>(v)))) {
      file.constant.push_back(variables[v]);
    } else {
      file.left_out[variables[v]] = "has one value everywhere";
    }
  }
  file.times = data.times();
  file.calendar = data.calendar();
  file.latitudes = data.latitudes();
  file.longitudes = data.longitudes();
}

}  // namespace

int64_t DataFile::spacing_seconds() const {
  std::map<int64_t, int64_t> counts;
  for (size_t i = 1; i < times.size(); ++i) ++counts[times[i] - times[i - 1]];
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

std::optional<GridAxes> find_grid_axes(const std::string& path) {
  const NetcdfFile file(path);
  for (const auto& [name, variable] : file.variables()) {
    if (is_coordinate(variable)) continue;
    GridNames names;
    try {
      names = find_grid(file, variable, {});
    } catch (const DataError&) {
      continue;
    }
    return GridAxes{read_latitudes(file, names.latitude).degrees,
                    read_longitudes(file, names.longitude).degrees};
  }
  return std::nullopt;
}

DataFile examine_data_file(const std::string& path) {
  DataFile file{.path = path};
  const NetcdfFile netcdf(path);
  std::vector<std::string> usable;
  const auto try_one = [&](const std::string& name) {
    const auto why = refusal(path, usable, name);
    if (!why.empty()) {
      file.left_out[name] = why;
      return;
    }
    usable.push_back(name);
    file.left_out.erase(name);
  };
  for (const auto& [name, variable] : netcdf.variables()) {
    if (!is_coordinate(variable)) try_one(name);
  }
  // One without a time is the same at all times, which it takes from the others.
  for (const auto& [name, why] : std::map(file.left_out)) try_one(name);
  if (usable.empty()) {
    const auto& out = file.left_out;
    throw DataError(detail::join(path, ": no variable lies on times, latitudes and longitudes",
                                 out.empty() ? "" : "; '" + out.begin()->first + "': ",
                                 out.empty() ? "" : out.begin()->second));
  }
  look_at_values(usable, file);
  return file;
}

}  // namespace isobar
