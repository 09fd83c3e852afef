// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/reducer.hpp>

#include <cstdint>
#include <vector>

namespace torch::nn {
class Module;
}

namespace isobar {

/// Compares the ranks' parameters by their bits now and then: at steps 1, 2, 4, 8 and so on up
/// to `every`, and from there at every k-th, so that what goes wrong at once is found at once.
class ParameterCheck {
 public:
  /// Throws UsageError on every rank where one has a negative `every` or ranks have different
  /// ones; 0: never. Collective over the world; blocks.
  ParameterCheck(const torch::nn::Module& module, const Reducer& reducer, Communicator& world,
                 Communicator& data, int64_t every);

  /// Ends the `step`-th step, counted from 1. Collective; blocks. Throws UsageError on every
  /// rank where parameters differ.
  void end_step(int64_t step) const;

  bool is_due(int64_t step) const;

 private:
  Communicator& world_;
  Communicator& data_;
  int64_t every_;
  std::vector<NamedParameter> shared_;   ///< of the same values on every rank, frozen ones too
  std::vector<NamedParameter> sharded_;  ///< on every rank of a data-parallel group
};

}  // namespace isobar
