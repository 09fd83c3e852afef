// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/data/samples.hpp>
#include <isobar/train/task.hpp>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// What was forecast of one variable for one time, and what came, in the variable's own unit.
struct SampleMap {
  std::string variable;
  std::string unit;  ///< as the data say it, may be empty
  int64_t lead_hours = 0;
  int64_t time = 0;     ///< of the target, as in Dataset::times()
  at::Tensor forecast;  ///< [N] float32 on the CPU: all points, whoever owns them
  at::Tensor truth;     ///< [N]; NaN where it is missing
};

/// All variables of the last sample of each set at its last target hour: one forecast, of no other
/// standing than that it is the latest. Collective over the ranks of a model, whose points are
/// gathered; blocks.
std::vector<SampleMap> last_sample_maps(const Task& task,
                                        const std::vector<std::shared_ptr<const SampleSet>>& sets,
                                        const ProcessGrid& grid, c10::Device device);

/// Writes maps as JSON (`isobar.maps.1`), with the points of `dataset`; complete or not at all. For
/// one rank.
void write_maps(const std::filesystem::path& file, const std::string& split, const Dataset& dataset,
                const std::vector<SampleMap>& maps);

}  // namespace isobar
