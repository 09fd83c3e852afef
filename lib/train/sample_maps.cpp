// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/sample_maps.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/core/atomic_file.hpp>
#include <isobar/core/version.hpp>
#include <isobar/data/cf_time.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <string>

namespace isobar {
namespace {

using nlohmann::json;

/// [N, P] of the [n, P] that each rank owns. A sum with zeros keeps the bits.
at::Tensor whole_field(const at::Tensor& own, const SampleSet& samples, Communicator& model) {
  auto values = own.to(at::kCPU, at::kFloat);
  const auto& rows = samples.options().rows;
  if (!rows.defined()) return values;
  auto whole = at::zeros({samples.dataset().point_latitudes().size(0), own.size(1)}, at::kFloat);
  whole.index_copy_(0, rows, values);
  model.allreduce(whole).wait();
  return whole;
}

std::string unit_of_variable(const Dataset& dataset, const std::string& variable) {
  const auto& names = dataset.variables();
  const auto place = std::find(names.begin(), names.end(), variable) - names.begin();
  return place < std::ssize(names) ? dataset.units()[static_cast<size_t>(place)] : "";
}

/// float32 as the shortest text that gives it again; null where it is no number.
json values_of_map(const at::Tensor& map) {
  const auto whole = map.contiguous();
  const auto* begin = whole.const_data_ptr<float>();
  auto values = json::array();
  for (int64_t i = 0; i < whole.numel(); ++i) {
    values.push_back(std::isfinite(begin[i]) ? json(std::stod(fmt::format("{}", begin[i])))
                                             : json());
  }
  return values;
}

json degrees_of(const at::Tensor& places) {
  const auto whole = places.contiguous();
  const auto* begin = whole.const_data_ptr<double>();
  return std::vector<double>(begin, begin + whole.numel());
}

/// Of normalised values of one variable, [N], those in its own unit.
at::Tensor in_own_unit(const at::Tensor& values, const Normalizer& normalizer,
                       const std::string& variable) {
  const auto& names = normalizer.variables();
  const auto column = std::find(names.begin(), names.end(), variable) - names.begin();
  const auto line = normalizer.tensors();
  return (values - line.at("add")[column]) / line.at("mul")[column];
}

void add_maps(const Task& task, const SampleSet& samples, const ProcessGrid& grid,
              c10::Device device, std::vector<SampleMap>& maps) {
  Batch batch;
  run_agreed(grid.model(), [&] { batch = to_device(samples.get({samples.size() - 1}), device); });
  const auto whole = [&](const at::Tensor& values) {
    return whole_field(values[0][values.size(1) - 1], samples, grid.model());
  };
  const auto forecasts = whole(task.forecast(batch)), truths = whole(batch.target);
  const int64_t lead = samples.options().target_hours.back();
  for (size_t p = 0; p < samples.variables().size(); ++p) {
    const auto& variable = samples.variables()[p];
    const auto map = [&](const at::Tensor& fields) {
      return in_own_unit(fields.select(1, static_cast<int64_t>(p)), samples.normalizer(), variable);
    };
    maps.push_back({.variable = variable,
                    .unit = unit_of_variable(samples.dataset(), variable),
                    .lead_hours = lead,
                    .time = batch.times.front() + kHourSeconds * lead,
                    .forecast = map(forecasts),
                    .truth = map(truths)});
  }
}

}  // namespace

std::vector<SampleMap> last_sample_maps(const Task& task,
                                        const std::vector<std::shared_ptr<const SampleSet>>& sets,
                                        const ProcessGrid& grid, c10::Device device) {
  c10::NoGradGuard no_grad;
  std::vector<SampleMap> maps;
  for (const auto& samples : sets) add_maps(task, *samples, grid, device, maps);
  return maps;
}

void write_maps(const std::filesystem::path& file, const std::string& split, const Dataset& dataset,
                const std::vector<SampleMap>& maps) {
  json report{{"schema", "isobar.maps.1"},
              {"commit", commit()},
              {"split", split},
              {"latitudes", degrees_of(dataset.point_latitudes())},
              {"longitudes", degrees_of(dataset.point_longitudes())},
              {"maps", json::array()}};
  for (const auto& map : maps) {
    report["maps"].push_back({{"variable", map.variable},
                              {"unit", map.unit},
                              {"lead_hours", map.lead_hours},
                              {"time", format_time(map.time, dataset.calendar())},
                              {"forecast", values_of_map(map.forecast)},
                              {"truth", values_of_map(map.truth)}});
  }
  write_file_atomically(file, report.dump() + "\n");
}

}  // namespace isobar
