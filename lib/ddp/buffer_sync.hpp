// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/bit_comparison.hpp"

#include <isobar/ddp/buffer_policy.hpp>

#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace isobar {

/// Applies a BufferPolicy to a module. Buffers are looked up by name each time,
/// since users reassign them.
class BufferSync {
 public:
  /// Throws UsageError on every rank where one has an invalid policy or ranks have
  /// different ones. Collective over the world; blocks.
  BufferSync(const torch::nn::Module& module, Communicator& world, Communicator& data,
             BufferPolicy policy);

  /// Copies the first replica's buffers to the others. Collective; blocks.
  void broadcast();

  /// Ends the `step`-th step, counted from 1, and does what the policy says is due.
  /// Collective; blocks.
  void end_step(int64_t step);

  const BufferCounters& counters() const noexcept { return counters_; }

 private:
  void compare(int64_t step);
  std::vector<NamedHash> hashes() const;

  const torch::nn::Module& module_;
  Communicator& world_;
  Communicator& data_;
  BufferPolicy policy_;
  std::vector<std::string> names_;
  std::vector<std::string> layouts_;  ///< with their names, as they were wrapped
  BufferCounters counters_;
};

}  // namespace isobar
