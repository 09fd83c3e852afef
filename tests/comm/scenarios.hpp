// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <ostream>
#include <vector>

namespace isobar::test {

/// What every backend must do, written once: `run` is called on each rank of a
/// world of any size and checks its results with gtest's expectations.
struct Scenario {
  const char* name;
  void (*run)(Communicator& world);
  bool sends_messages = false;
};

std::vector<Scenario> scenarios();

/// Those of a backend that carries no messages.
std::vector<Scenario> collective_scenarios();

/// Every collective with every type it takes and `count` elements a rank, against a
/// plain reference: for the sizes around which a backend changes its ways.
void check_sizes(Communicator& world, const std::vector<int64_t>& counts);

/// allreduce and reduce_scatter of floats that no sum represents, against the bits
/// that ranks as threads get from the same values: what `deterministic` promises.
void check_bits(Communicator& world, const std::vector<int64_t>& counts);

inline std::ostream& operator<<(std::ostream& out, const Scenario& scenario) {
  return out << scenario.name;
}

}  // namespace isobar::test
