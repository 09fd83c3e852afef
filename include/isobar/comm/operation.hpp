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

/// One checked call on a Communicator, as a backend gets it.
///
/// Tensors are contiguous and keep their memory alive; `input` may be undefined
/// where the operation works in place.
struct Operation {
  OperationKind kind = OperationKind::barrier;
  ReduceOp reduce = ReduceOp::sum;
  at::Tensor input;
  at::Tensor output;
  /// broadcast: the root; send and receive: the other rank.
  int peer = 0;
  int tag = 0;
  /// allreduce: the gradient bucket that it carries; negative for none.
  int32_t bucket = -1;
  /// all_to_all: rows (entries of dimension 0) sent to and received from each rank.
  std::vector<int64_t> input_rows;
  std::vector<int64_t> output_rows;
  /// Position in the communicator's order of collectives, from 0. Sends and
  /// receives have a count of their own.
  int64_t sequence = 0;
  std::chrono::milliseconds timeout{0};

  /// What the ranks must agree on, such as "allreduce sum float32[1024]" or "allreduce
  /// sum float32[1024] of bucket 2"; equal strings on all ranks are necessary for a
  /// collective to be the same.
  std::string signature() const;

  /// How messages name it, such as "allreduce #41".
  std::string name() const;
};

}  // namespace isobar
