// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/reduction.hpp>
#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace isobar {

enum class OperationKind {
  allreduce,
  reduce_scatter,
  all_gather,
  all_to_all,
  broadcast,
  send,
  receive,
  barrier
};

std::string_view to_string(OperationKind kind) noexcept;

/// What of a Reducer's gradients, or of a module's buffers, a collective carries. The ranks have
/// to agree on it as on the size, and errors name it.
struct BucketMark {
  /// In place of a bucket's number, of what Reducer::replan() sends.
  static constexpr int32_t kReplan = -2;
  /// In place of a bucket's number, of a module's buffers.
  static constexpr int32_t kBuffers = -3;

  int32_t bucket = -1;   ///< its number in the plan; negative for whatever is no bucket
  int32_t reducer = -1;  ///< tells the reducers of one communicator apart; negative for none
  int32_t frozen = 0;    ///< how many of the bucket's parameters are frozen in this step
  /// A hash of which parameters are frozen, of buffers of their names, types and shapes; 0 for
  /// none.
  uint32_t set = 0;
  int64_t step = -1;  ///< negative for none

  bool operator==(const BucketMark&) const = default;
};

/// One checked call on a Communicator, as a backend gets it.
///
/// Tensors are contiguous and keep their memory alive; `input` may be undefined
/// where the operation works in place.
struct Operation {
  OperationKind kind = OperationKind::barrier;
  ReduceOp reduce = ReduceOp::sum;
  /// Of a sum of 16-bit floats, in the wider type, before it is rounded; 1 otherwise.
  double divisor = 1;
  at::Tensor input;
  at::Tensor output;
  /// broadcast: the root; send and receive: the other rank.
  int peer = 0;
  int tag = 0;
  /// The gradients that it carries, if it does.
  BucketMark mark;
  /// all_to_all: rows (entries of dimension 0) sent to and received from each rank.
  std::vector<int64_t> input_rows;
  std::vector<int64_t> output_rows;
  /// Position in the communicator's order of collectives, from 0. Sends and
  /// receives have a count of their own.
  int64_t sequence = 0;
  std::chrono::milliseconds timeout{0};

  /// What the ranks must agree on, such as "allreduce sum float32[1024]" or "allreduce sum
  /// float32[1024] of bucket 2, reducer 0, step 7"; equal strings on all ranks are necessary for a
  /// collective to be the same.
  std::string signature() const;

  /// How messages name it, such as "allreduce #41".
  std::string name() const;

 private:
  std::string signature_of_values() const;
};

}  // namespace isobar
