// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/graph/partition.hpp>
#include <isobar/model/weather_gnn.hpp>

#include <functional>
#include <string>
#include <vector>

namespace isobar {

/// How far a quantity is from what another program made of it.
struct ParityRow {
  std::string quantity;
  double error = 0;     ///< largest difference
  double relative = 0;  ///< divided by the tensor's largest value
  double tolerance = 0;
  bool is_relative = false;  ///< which of the two the tolerance is of

  /// False for what is no number, too.
  bool holds() const { return (is_relative ? relative : error) <= tolerance; }
};

struct ParityOptions {
  PartitionMethod partition = PartitionMethod::bands;
  Activations activations = Activations::keep;
};

/// Computes what a parity file (read_parity_case()) holds, the ranks sharing its sample, and
/// compares: output, loss, every gradient, losses over AdamW updates. `on_precision` gets the rows
/// of "float32", then of "float64", on every rank. Collective; blocks. Throws DataError on every
/// rank where the file cannot be read.
void compare_parity(Communicator& world, const std::string& path, const ParityOptions& options,
                    const std::function<void(const std::string& precision,
                                             const std::vector<ParityRow>& rows)>& on_precision);

}  // namespace isobar
