// SPDX-License-Identifier: Apache-2.0
// A module of two parameters whose gradients are exact, and the ways to launch buckets.
#pragma once

#include <isobar/ddp/reducer_options.hpp>
#include <torch/nn/module.h>

#include "ddp/exact.hpp"

namespace isobar::test {

struct TwoParameters : torch::nn::Module {
  TwoParameters() {
    weight = register_parameter("weight", at::ones({3}, at::kDouble));
    bias = register_parameter("bias", at::ones({2}, at::kDouble));
  }
  at::Tensor weight, bias;
};

inline void pass(const TwoParameters& net, int rank, double scale = 1) {
  auto loss = (net.weight * exact_gradient(net.weight, rank)).sum();
  (scale * (loss + (net.bias * exact_gradient(net.bias, rank)).sum())).backward();
}

inline constexpr Launch kLaunches[] = {Launch::first_gradient, Launch::counted, Launch::at_finish};

}  // namespace isobar::test
