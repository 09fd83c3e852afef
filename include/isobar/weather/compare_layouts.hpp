// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/weather/experiment.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace isobar {

struct LayoutComparison {
  int64_t steps = 10;
  int64_t samples = 4;  ///< a step, of all ranks; a multiple of 4
};

/// How far a quantity is from what one rank computes.
struct LayoutDifference {
  std::string layout;  ///< ranks of a model x replicas, such as "2x2"
  std::string optimizer;
  std::string precision;  ///< "float32" or "float64"
  std::string quantity;  ///< "loss", "weights", "gradients, <reduction>", or "later gradients, ..."
  std::string tensor;    ///< whose difference is the largest; empty for the loss
  double difference = 0;  ///< the largest, of a loss to its size or of a tensor to its norm
  double tolerance = 0;   ///< what rounding explains

  /// False where the difference is no number, too.
  bool holds() const { return difference <= tolerance; }
};

/// Trains the same steps of an experiment on 1 x 1, 1 x 4, 2 x 2 and 4 x 1 ranks (of a model x
/// replicas), which are threads of this process, and compares losses, gradients and weights with
/// those of 1 x 1: with sgd and adamw, in float32 and float64. `on_row` gets each comparison as it
/// is made. Blocks. Throws UsageError where the data are not there, or samples are no multiple
/// of 4.
void compare_layouts(Experiment experiment, const LayoutComparison& comparison,
                     const std::function<void(const LayoutDifference&)>& on_row);

}  // namespace isobar
