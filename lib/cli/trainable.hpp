// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/bucket_plan.hpp>
#include <torch/nn/module.h>

#include <vector>

namespace isobar {

/// The module's parameters that require a gradient, in the order of registration.
inline std::vector<NamedParameter> trainable(const torch::nn::Module& module) {
  std::vector<NamedParameter> parameters;
  for (const auto& item : module.named_parameters()) {
    if (item.value().requires_grad()) parameters.push_back({item.key(), item.value()});
  }
  return parameters;
}

}  // namespace isobar
