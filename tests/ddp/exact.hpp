// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/reducer_options.hpp>
#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

namespace isobar::test {

inline const BucketCaps kOneTensorABucket{.cap_bytes = 1, .first_cap_bytes = 1};

inline at::Tensor leaf(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
  return at::ones(sizes, type).set_requires_grad(true);
}

/// Small integers, different in every element and on every rank: sums of up to
/// four of them are exact in any order, in every type.
inline at::Tensor exact_gradient(const at::Tensor& like, int rank) {
  return (at::arange(like.numel()).reshape(like.sizes()) % 13 + 4 * rank).to(like.scalar_type());
}

inline at::Tensor exact_sum(const at::Tensor& like, int size) {
  auto sum = at::zeros_like(like);
  for (int r = 0; r < size; ++r) sum += exact_gradient(like, r);
  return sum.detach();
}

inline at::Tensor exact_mean(const at::Tensor& like, int size) {
  return exact_sum(like, size) / size;
}

/// Adds `times` exact gradients of the rank to `.grad` in one backward pass.
inline void backward(const at::Tensor& parameter, int rank, int times = 1) {
  auto loss = (parameter * exact_gradient(parameter, rank)).sum() * times;
  (loss.is_complex() ? at::real(loss) : loss).backward();
}

/// What every rank of `size` got from a UsageError; empty where none was thrown.
inline std::vector<std::string> errors_of(const std::function<void(Communicator&)>& act,
                                          int size = 2) {
  std::vector<std::string> messages(size);
  run_ranks(size, [&](Communicator& comm) {
    try {
      act(comm);
    } catch (const UsageError& error) {
      messages[comm.rank()] = error.what();
    }
  });
  return messages;
}

}  // namespace isobar::test
