// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/buffer_policy.hpp>
#include <isobar/ddp/reducer.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace isobar {

/// Whether a grid may have a single replica, whose data-parallel groups are of one
/// rank: usually a grid built the wrong way round, which trains and averages nothing.
enum class SingleReplica { refused, allowed };

struct DataParallelOptions {
  /// Of its gradients: buckets, when and how they are reduced, compression.
  ReducerOptions reducer = {};
  /// What happens to the module's buffers, and how often.
  BufferPolicy buffers = {};
  /// Every k-th step, and steps 1, 2, 4, 8 and so on before, the ranks compare their parameters'
  /// bits, which must be equal: hashes are made on the CPU, and allreduces of 16 and of 8 bytes
  /// compare them (sharded parameters have two more). 0: never, for what may differ: a frozen
  /// tensor that is a rank's own, processors of different generations, which round differently.
  int64_t compare_parameters_every = 100;
  /// What each parameter's gradient means in a model-parallel group, by name;
  /// empty means Reduction::replicated for all.
  std::function<Reduction(const std::string& name)> reduction = nullptr;
  /// Matters on a grid of several ranks that all belong to one model.
  SingleReplica single_replica = SingleReplica::refused;
};

/// Trains one module on several ranks, each with its own share of the samples.
///
/// Wraps a module's parameters, not its forward: call the module as before.
///
///     isobar::DataParallel parallel(*module, *comm, {.reducer = {.caps = {.cap_bytes = 8 <<
///     20}}}); for (...) {
///       parallel.zero_grad();
///       loss(module->forward(x), y).backward();   // mean over this rank's samples
///       parallel.finish();                        // .grad: mean over all ranks' samples
///       optimizer.step();
///     }
///
/// Parameters and buffers may be of any type, strided in any way (expanded, overlapping), and
/// frozen parameters and buffers sparse; what cannot be copied (quantized, on device meta) is
/// refused by name.
///
/// Frozen parameters (requires_grad false) are copied from rank 0 once and left
/// alone. One that is frozen later does not move, see Reducer. What makes the module another
/// than the wrapped one (a parameter added, replaced, taken out or unfrozen; retyping or moving
/// it) is an error in the next finish() that names the parameter: wrap the module again. A new
/// wrapper takes the place of an earlier one of the same module that is still alive; a parameter
/// in the wrapper of another module is refused.
///
/// Whose `.grad` is when: see Reducer.
class DataParallel {
 public:
  /// Compares the module over the ranks and copies rank 0's parameters and
  /// buffers to all (sharded parameters and buffers: the first replica's).
  /// Collective over the world; blocks. `module` and the communicators must
  /// outlive this object. Throws UsageError on every rank if modules differ, if a
  /// parameter is in another module's wrapper, or where a grid has one replica only and
  /// options do not allow that.
  DataParallel(torch::nn::Module& module, Communicator& world,
               const DataParallelOptions& options = {});
  DataParallel(torch::nn::Module& module, const ProcessGrid& grid,
               const DataParallelOptions& options = {});
  ~DataParallel();
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;

  /// Zeroes all gradients where they lie. Any other zero_grad works too, also to throw a backward
  /// pass away of which nothing has been sent: see Reducer.
  void zero_grad();

  /// See Reducer::begin_step: for loops whose ranks could leave a step out.
  void begin_step(int64_t number);

  /// Ends the backward pass of a step: waits for the gradients, and does with
  /// buffers what is due. Collective; blocks. Throws UsageError on every rank where
  /// compared buffers or parameters differ: it names them, the ranks and the step. Throws it
  /// on this rank, once the step has ended, where the module is no longer the one that was
  /// wrapped or somebody wrote to a gradient that was the reducer's. Where parameters differ
  /// because such an error kept one rank from updating them, all ranks throw that error.
  void finish();

  /// The same, and hands over each bucket as soon as it is reduced: see
  /// Reducer::finish and FlatOptimizer.
  void finish(const BucketCallback& on_bucket);

  /// Backward passes while the scope lives only accumulate.
  AccumulationScope accumulate();

  Reducer& reducer() noexcept;

  const BufferCounters& buffer_counters() const noexcept;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace isobar
