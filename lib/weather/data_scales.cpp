// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/data_scales.hpp>

#include <isobar/core/error.hpp>
#include <isobar/data/units.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <iterator>

namespace isobar {
namespace {

std::map<std::string, Normalization> methods(const Experiment& experiment) {
  std::map<std::string, Normalization> result;
  for (const auto& [name, method] : experiment.normalization) {
    result[name] = parse_normalization(method);
  }
  return result;
}

}  // namespace

DataOrigin origin_of(const Dataset& dataset) {
  const auto& north = dataset.latitudes();
  const auto& east = dataset.longitudes();
  return {dataset.units(),
          fmt::format("{} latitudes from {:.3f} to {:.3f}, {} longitudes from {:.3f} to {:.3f}",
                      north.size(), north.front(), north.back(), east.size(), east.front(),
                      east.back())};
}

std::vector<std::string> DataScales::compare(const Dataset& dataset,
                                             const std::string& path) const {
  std::vector<std::string> lines;
  const auto found = origin_of(dataset);
  for (size_t v = 0; v < origin_.units.size(); ++v) {
    const auto &got = found.units[v], &wanted = origin_.units[v];
    const bool is_unknown = wanted.empty() && origin_.grid.empty();
    if (is_unknown || same_units(got, wanted)) continue;
    const auto text =
        fmt::format("{}: variable '{}' {}, in the data that the model was trained on {}", path,
                    variables_[v], got.empty() ? "has no units" : "is in " + got,
                    wanted.empty() ? "it had none" : "in " + wanted);
    if (!got.empty() && !wanted.empty()) {
      throw DataError(text +
                      fmt::format("; convert it or, if that is the same unit, say so in the file: "
                                  "ncatted -a units,{},o,c,'{}' FILE",
                                  variables_[v], wanted));
    }
    lines.push_back(text + "; the same are assumed");
  }
  if (!origin_.grid.empty() && origin_.grid != found.grid) {
    lines.push_back(
        fmt::format("{}: lies on {}; the model was trained on {}", path, found.grid, origin_.grid));
  }
  return lines;
}

void DataScales::take(const Experiment& experiment, const std::vector<ScanStatistics>& statistics) {
  std::vector<VariableStatistics> values;
  auto change = at::zeros({std::ssize(statistics)}, at::kDouble);
  for (size_t v = 0; v < statistics.size(); ++v) {
    values.push_back(statistics[v].values);
    change[static_cast<int64_t>(v)] = statistics[v].change_stdev;
  }
  normalizer_ = Normalizer(variables_, values, methods(experiment)).tensors();
  tendency_ = (change * normalizer_.at("mul").abs().to(at::kDouble)).to(at::kFloat);
}

void DataScales::save(StateDict& state) const {
  for (const auto& [key, tensor] : normalizer_) state.put("normalizer." + key, tensor);
  state.put("tendency", tendency_);
  // Where they are not known too, so that this version can be read again.
  for (size_t v = 0; v < variables_.size(); ++v) {
    state.put_scalar("units." + variables_[v],
                     v < origin_.units.size() ? origin_.units[v] : std::string());
  }
  state.put_scalar("grid", origin_.grid);
}

void DataScales::load(const StateDict& state, int version) {
  std::map<std::string, at::Tensor> normalizer{{"mul", state.tensor("normalizer.mul")},
                                               {"add", state.tensor("normalizer.add")}};
  Normalizer::from_tensors(variables_, normalizer);
  DataOrigin origin;
  if (version >= 2) {
    for (const auto& name : variables_) origin.units.push_back(state.text("units." + name));
    origin.grid = state.text("grid");
  }
  tendency_ = state.tensor("tendency");
  normalizer_ = std::move(normalizer);
  origin_ = std::move(origin);
}

}  // namespace isobar
