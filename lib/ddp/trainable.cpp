// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/trainable.hpp>

#include <torch/nn/module.h>

#include <set>

namespace isobar {

std::vector<NamedParameter> trainable(
    const torch::nn::Module& module,
    const std::function<Reduction(const std::string& name)>& reduction) {
  std::vector<NamedParameter> parameters;
  std::set<const void*> known;
  for (const auto& item : module.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    if (!known.insert(item.value().unsafeGetTensorImpl()).second) continue;
    parameters.push_back(
        {item.key(), item.value(), reduction ? reduction(item.key()) : Reduction::replicated});
  }
  return parameters;
}

BucketPlan first_plan(const std::vector<NamedParameter>& parameters, const BucketCaps& caps) {
  return plan_buckets(parameters, reverse_order(static_cast<int64_t>(parameters.size())), caps);
}

}  // namespace isobar
