// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/reducer.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace torch::nn {
class Module;
}

namespace isobar {

struct DataParallelOptions {
  /// A bucket's allreduce starts once it holds this many bytes of gradients.
  int64_t bucket_cap_bytes = 25 * 1024 * 1024;
  /// The cap of the first bucket to fill. Never above bucket_cap_bytes: the
  /// smaller of the two holds.
  int64_t first_bucket_cap_bytes = 1024 * 1024;
  /// Copies the first replica's buffers (running statistics and the like) to
  /// the others at the end of every k-th step: 0 never, 1 every step.
  int64_t broadcast_buffers_every = 0;
  /// What each parameter's gradient means in a model-parallel group, by name;
  /// empty means Reduction::replicated for all.
  std::function<Reduction(const std::string& name)> reduction = nullptr;
};

/// Trains one module on several ranks, each with its own share of the samples.
///
/// Wraps a module's parameters, not its forward: call the module as before.
///
///     isobar::DataParallel parallel(*module, *comm, {.bucket_cap_bytes = 8 << 20});
///     for (...) {
///       parallel.zero_grad();
///       loss(module->forward(x), y).backward();   // mean over this rank's samples
///       parallel.finish();                        // .grad: mean over all ranks' samples
///       optimizer.step();
///     }
///
/// Frozen parameters (requires_grad false) are copied from rank 0 once and left
/// alone. Retyping or moving the module afterwards is detected at the next
/// finish() or zero_grad().
class DataParallel {
 public:
  /// Compares the module over the ranks and copies rank 0's parameters and
  /// buffers to all (sharded parameters and buffers: the first replica's).
  /// Collective over the world; blocks. `module` and the communicators must
  /// outlive this object. Throws UsageError on every rank if modules differ.
  DataParallel(torch::nn::Module& module, Communicator& world, DataParallelOptions options = {});
  DataParallel(torch::nn::Module& module, const ProcessGrid& grid,
               DataParallelOptions options = {});
  ~DataParallel();

  /// Zeroes all gradients where they lie. Any other zero_grad works too.
  void zero_grad();

  /// Ends the backward pass of a step: waits for the gradients, and broadcasts
  /// buffers where it is their turn. Collective; blocks.
  void finish();

  /// Backward passes while the scope lives only accumulate.
  AccumulationScope accumulate();

  Reducer& reducer() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
