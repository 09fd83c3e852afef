// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/step_sync.hpp>
#include <isobar/bench/subject.hpp>
#include <ATen/core/Tensor.h>

#include <vector>

namespace isobar::bench {

/// How far values are from what they should be, on any rank.
struct Deviation {
  double largest = 0;          ///< absolute
  double beyond_rounding = 0;  ///< the largest that no order of a sum explains; 0 is right
};

/// Copies of the parameters' gradients, one-dimensional; zeros where there is none.
std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& parameters);

/// Compares this rank's `got` with the mean over ranks of their `own` gradients, made
/// from all of them in float64: a float32 sum of n values in any order, divided by n,
/// is within n 2^-23 of the mean of their absolute values. What is not finite counts
/// as the largest double. What `loss` allows comes on top. Both are from gradients_of(); `ranks`
/// runs all_gather. Collective; blocks.
Deviation deviation_from_mean(Subject& ranks, const std::vector<at::Tensor>& got,
                              const std::vector<at::Tensor>& own, const SyncLoss& loss = {});

/// The same where every rank is to have its own gradients and no others.
Deviation deviation_from_own(Subject& ranks, const std::vector<at::Tensor>& got,
                             const std::vector<at::Tensor>& own);

/// Whether the tensors have the same bits on all ranks. Collective; blocks.
bool same_on_all_ranks(Subject& ranks, const std::vector<at::Tensor>& tensors);

}  // namespace isobar::bench
