// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/comm/work.hpp>
#include <isobar/graph/graph_shard.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace isobar {

/// An exchange that has been started.
class PendingHalo {
 public:
  PendingHalo() = default;
  PendingHalo(Work work, std::function<void()> finish)
      : work_(std::move(work)), finish_(std::move(finish)) {}

  /// Waits for the rows and puts them where they belong; again is allowed and
  /// does nothing. On the CPU it blocks; on a device it orders the stream. Throws
  /// CommError.
  void wait();

 private:
  Work work_;
  std::function<void()> finish_;
};

/// Brings the rows that a rank's edges read from other ranks, and takes their
/// gradients back: only rows that cross a boundary travel.
///
/// Rows are [B, owned + halo, C], own ones first. The two calls are adjoint: with
/// H the first as a matrix over all ranks, the second applies its transpose.
/// Collective over the communicator: all its ranks call the same in the same
/// order. The plan's counts decide what is sent; a rank without any takes part.
class HaloExchange {
 public:
  /// `model` must outlive this object. Throws UsageError unless the plan has one
  /// count a rank of it.
  HaloExchange(HaloPlan plan, Communicator& model);

  const HaloPlan& plan() const noexcept { return plan_; }

  /// Starts to fill the halo of `rows`, contiguous, from its owners. Never blocks.
  /// Own rows are read at once; the halo belongs to the exchange until wait().
  PendingHalo start(const at::Tensor& rows);

  /// Starts to send the halo of `gradients` to its owners; wait() adds what came
  /// to the own rows, peer after peer, so that the sum has the same bits each
  /// time. The halo is left as it is.
  PendingHalo start_adjoint(const at::Tensor& gradients);

  /// Rows that this rank has received since it was made, both ways.
  int64_t received_rows() const noexcept { return received_rows_; }

 private:
  void check(const at::Tensor& rows) const;
  at::Tensor send_rows(const at::Tensor& like);

  HaloPlan plan_;
  Communicator& model_;
  at::Tensor send_rows_;  ///< on the device of the rows
  int64_t received_rows_ = 0;
};

}  // namespace isobar
