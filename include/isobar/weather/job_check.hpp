// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/experiment.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// What a job of a batch system gives to a training run. 0: not known.
struct JobResources {
  std::string machine;  ///< its name, for messages
  int nodes = 1;
  int ranks_per_node = 1;
  int node_gpus = 0;
  bool program_has_gpus = true;  ///< it was built with CUDA or ROCm
  std::int64_t gpu_memory_bytes = 0;
  std::int64_t node_memory_bytes = 0;
  std::int64_t minutes = 0;  ///< the time limit
  double step_seconds = 0;   ///< what a step takes, as somebody has measured it
};

/// Looks for what would end the run before it has left a checkpoint: ranks that are not whole
/// models, a device, data, variables or periods that are not there, steps that take longer than the
/// job, and, by the plan of its largest step, memory. Throws UsageError that says what to change,
/// or DataError for data that cannot be read. Returns warnings: training that its last checkpoint
/// survives, but that will not come to its end.
///
/// Builds the graph where memory is known. One process calls it, in the folder that the run will be
/// started in.
std::vector<std::string> check_job(const Experiment& experiment, const JobResources& resources);

}  // namespace isobar
