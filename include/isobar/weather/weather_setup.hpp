// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/data_scales.hpp>
#include <isobar/weather/experiment.hpp>
#include <isobar/weather/network_plan.hpp>
#include <isobar/weather/weather_data.hpp>
#include <isobar/weather/weather_task.hpp>

#include <isobar/comm/process_grid.hpp>
#include <isobar/core/log.hpp>
#include <isobar/model/tensor_memory.hpp>
#include <isobar/model/weather_gnn.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// The world's ranks, shared as the experiment says. Collective; blocks. Throws UsageError where
/// model.ranks does not divide them.
ProcessGrid make_process_grid(Communicator& world, const Experiment& experiment);

/// An experiment made real: data, graph, network and what to do with them.
class WeatherSetup {
 public:
  /// Builds graph and network, with initial weights from the experiment's seed. Scales are those of
  /// the experiment's training period, which `data` were looked through for. The grid has the
  /// experiment's ranks a model, and must outlive this.
  WeatherSetup(const Experiment& experiment, const ProcessGrid& grid, const WeatherData& data);

  /// The same, looking through the data first. Collective; blocks.
  WeatherSetup(const Experiment& experiment, const ProcessGrid& grid);

  /// Opens the data; scales come from a checkpoint's folder. Throws DataError where a variable is
  /// in another unit than they are.
  WeatherSetup(const Experiment& experiment, const ProcessGrid& grid,
               const std::string& checkpoint);

  const Task& task() const noexcept { return task_; }
  c10::Device device() const noexcept { return device_; }
  /// Of this rank's points, [N] or as many as rows_ has.
  const at::Tensor& area() const noexcept { return area_; }
  const WeatherGraph& graph() const noexcept { return graph_; }
  /// What a user should know of the graph: why one of the cache was not taken, or could not be
  /// kept, and whether points are not seen.
  std::vector<std::string> graph_warnings() const;
  /// The same, of the data, and of what differs from those of the training, where scales come
  /// from a checkpoint.
  std::vector<std::string> warnings() const;
  /// What was chosen for this rank's network, and what steps of the longest forecast take.
  const PlannedNetwork& planned() const noexcept { return planned_; }
  /// What tensors of this thread take, from the network's first one on.
  const TensorMemory& memory() const { return *memory_; }
  const DataScales& scales() const noexcept { return scales_; }

  std::shared_ptr<const SampleSet> training_samples() const;

  /// The samples of a split, "validation" or "test", one set a lead time of the
  /// experiment, with references of the last day known (see last_known_day) if there are any.
  std::vector<std::shared_ptr<const SampleSet>> scoring_samples(const std::string& split) const;

  /// Those of a split's analyses that have `steps` target hours within it: one set, whose targets
  /// are every step's. Throws UsageError where forecasts cannot be fed back so far.
  std::shared_ptr<const SampleSet> rollout_samples(const std::string& split, int64_t steps) const;

  Period training_period() const;

  /// One line about what was built.
  std::string summary() const;

 private:
  WeatherSetup(const Experiment& experiment, const ProcessGrid& grid,
               std::shared_ptr<const Dataset> dataset, DataScales scales);
  WeatherSetup(const Experiment& experiment, const ProcessGrid& grid,
               const std::shared_ptr<const Dataset>& dataset, const std::string& checkpoint);
  void build_network();
  WeatherTaskOptions task_options() const;
  void set_bounds(WeatherTaskOptions& options) const;
  SampleOptions sample_options() const;
  Period period(const PeriodText& text) const;
  std::shared_ptr<const SampleSet> samples_to(const std::string& split,
                                              const SampleOptions& options,
                                              int64_t lead_hours) const;

  Experiment experiment_;
  const ProcessGrid& grid_;
  c10::Device device_;
  std::shared_ptr<const Dataset> dataset_;
  DataScales scales_;
  WeatherGraph graph_;
  std::string graph_warning_;
  std::vector<std::string> differences_;  ///< between these data and the checkpoint's
  PlannedNetwork planned_;
  std::optional<TensorMemory> memory_;
  at::Tensor rows_;  ///< points that this rank owns; undefined for all
  at::Tensor area_;
  Task task_;
};

}  // namespace isobar
