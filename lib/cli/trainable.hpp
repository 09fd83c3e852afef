// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/bucket_plan.hpp>
#include <isobar/ddp/data_parallel.hpp>
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

/// The buckets before the order of gradients is known: the last parameters' first.
inline BucketPlan first_plan(const std::vector<NamedParameter>& parameters,
                             const DataParallelOptions& ddp) {
  return plan_buckets(parameters, reverse_order(static_cast<int64_t>(parameters.size())),
                      {.cap_bytes = ddp.bucket_cap_bytes,
                       .first_cap_bytes = ddp.first_bucket_cap_bytes,
                       .last_cap_bytes = ddp.last_bucket_cap_bytes,
                       .cap_list = ddp.bucket_cap_list});
}

}  // namespace isobar
