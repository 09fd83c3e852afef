// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/bucket_plan.hpp>

#include <functional>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace isobar {

/// The module's parameters that require a gradient, in the order of registration. A tensor under
/// two names is one parameter, under the first. `reduction` tells a parameter's by its name; null:
/// all are replicated.
std::vector<NamedParameter> trainable(
    const torch::nn::Module& module,
    const std::function<Reduction(const std::string& name)>& reduction = nullptr);

/// The buckets before the order of gradients is known: the last parameters' first.
BucketPlan first_plan(const std::vector<NamedParameter>& parameters, const BucketCaps& caps);

}  // namespace isobar
