// SPDX-License-Identifier: Apache-2.0
// What the backends share.
#pragma once

#include <isobar/comm/communicator.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/watch.hpp"

namespace isobar {

/// What backends may do to a communicator that they did not define.
struct BackendAccess {
  /// Reports what `comm` issues from now on.
  static void set_watch(Communicator& comm, std::unique_ptr<Watch> watch);

  /// Starts an operation that has been checked elsewhere, on a communicator of the same
  /// ranks. Its number is that of `comm`.
  static Work start(Communicator& comm, Operation operation);

  /// The same under the number that `operation` has, so that a communicator and the one
  /// that carries out its operations speak of them by one number.
  static Work forward(Communicator& comm, Operation operation);

  /// What `carrier` exchanged by itself, for a split, has numbers in `comm` too, and is
  /// reported as barriers.
  static void catch_up(Communicator& comm, const Communicator& carrier);

  /// The one of `comm` and of all that are split from its world.
  static const std::shared_ptr<FirstCause>& first_cause(const Communicator& comm);
};

/// "allreduce #41 on rank 3 of 8".
std::string place(const Operation& operation, int rank, int size);

/// " of bucket 2, reducer 0, step 7, 1 of its parameters frozen", as far as it is known; empty
/// for what is no bucket.
std::string of_bucket(const BucketMark& mark);

/// "allreduce #41 on rank 3 of 8: no answer in 30 s (allreduce sum float32[1024])"; of a
/// bucket "... (bucket 2, float32, 1.0 MiB)".
std::string timed_out(const Operation& operation, int rank, int size);

/// "1.5 s", "250 ms".
std::string in_words(std::chrono::milliseconds time);

/// Throws UsageError if a tensor is not on the CPU.
void check_on_cpu(const Operation& operation, std::string_view backend);

/// Does `operation` for a communicator of one rank; its Work is complete. On a
/// GPU the copies are ordered on the current stream.
Work complete_alone(const Operation& operation);

/// Bytes of an entry of dimension 0.
int64_t row_bytes(const at::Tensor& tensor);

/// This rank's place in a communicator that split() makes.
struct SplitPlace {
  int rank = 0;
  int size = 0;
};

/// Tells all ranks of `comm` the others' color and key. Collective; blocks.
SplitPlace agree_on_split(Communicator& comm, int color, int key);

}  // namespace isobar
