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
};

std::vector<Scenario> scenarios();

inline std::ostream& operator<<(std::ostream& out, const Scenario& scenario) {
  return out << scenario.name;
}

}  // namespace isobar::test
