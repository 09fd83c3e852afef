// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include "compress/world.hpp"

namespace isobar::test {

/// As draw(), of any floating or complex type.
inline at::Tensor draw_as(at::ScalarType type, at::IntArrayRef sizes, int64_t step, int64_t rank) {
  const auto real = draw(sizes, 1, step, rank);
  if (!c10::isComplexType(type)) return real.to(type);
  return at::complex(real, draw(sizes, 2, step, rank)).to(type);
}

/// The sum of every rank's tensor, in float64.
inline at::Tensor sum_over(Communicator& comm, const at::Tensor& tensor) {
  auto sum = tensor.detach().to(at::kDouble).contiguous().clone();
  comm.allreduce(sum).wait();
  return sum;
}

/// Whether all ranks hold the same bits; NaN equals NaN.
inline bool is_same_everywhere(Communicator& comm, const at::Tensor& tensor) {
  const auto real = tensor.is_complex() ? at::view_as_real(tensor.detach()) : tensor.detach();
  const auto own = real.contiguous().flatten().view(at::kByte);
  const auto all = at::empty({comm.size() * own.numel()}, at::kByte);
  comm.all_gather(all, own).wait();
  return at::equal(all.view({comm.size(), -1}), own.expand({comm.size(), own.numel()}));
}

/// A step of two backward passes, of which the first only accumulates.
inline void accumulated_step(CompressedModel& model, const std::vector<at::Tensor>& first,
                             const std::vector<at::Tensor>& second) {
  model.reducer.zero_grad();
  const auto backward = [&](const std::vector<at::Tensor>& gradients) {
    at::Tensor loss = at::zeros({}, at::kDouble);
    for (size_t i = 0; i < gradients.size(); ++i) {
      loss = loss + (model.parameters[i].tensor * gradients[i]).sum();
    }
    loss.backward();
  };
  {
    const auto scope = model.reducer.accumulate();
    backward(first);
  }
  backward(second);
  model.reducer.finish();
}

}  // namespace isobar::test
