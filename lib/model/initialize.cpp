// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/model/initialize.hpp>
#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <string_view>

namespace isobar {
namespace {

using Parameters = torch::OrderedDict<std::string, at::Tensor>;

/// A float64 tensor of the given shape on the CPU, uniform in [-bound, bound).
at::Tensor uniform(at::IntArrayRef shape, double bound, uint64_t seed, std::string_view name) {
  at::Tensor values = at::empty(shape, at::kDouble);
  double* data = values.mutable_data_ptr<double>();
  const uint64_t state = splitmix64(seed + kSplitmix64Step) ^ fnv1a(name);
  for (int64_t i = 0; i < values.numel(); ++i) {
    const uint64_t bits = splitmix64(state + (static_cast<uint64_t>(i) + 1) * kSplitmix64Step);
    data[i] = bound * (static_cast<double>(bits >> 11) * 0x1p-52 - 1.0);
  }
  return values;
}

/// Zero dimensions where the module of that prefix has no weight.
at::Tensor weight_of(const Parameters& parameters, const std::string& prefix) {
  const at::Tensor* weight = parameters.find(prefix + "weight");
  return weight ? *weight : at::empty({});
}

void initialize(at::Tensor parameter, const std::string& name, const Parameters& all,
                uint64_t seed) {
  const size_t key_start = name.rfind('.') + 1;  // 0 where there is no dot
  const std::string key = name.substr(key_start);
  const at::Tensor weight = weight_of(all, name.substr(0, key_start));
  const bool covered = weight.dim() > 0 && (key == "weight" || key == "bias");
  if (key.ends_with("_table")) {
    parameter.zero_();
  } else if (covered && weight.dim() == 1) {
    parameter.fill_(key == "weight" ? 1 : 0);
  } else if (covered) {
    const double fan_in = static_cast<double>(weight.numel() / weight.size(0));
    parameter.copy_(uniform(parameter.sizes(), 1.0 / std::sqrt(fan_in), seed, name));
  } else {
    throw UsageError("initialize_parameters: no rule for parameter " + name +
                     "; wanted weight, bias beside a weight, or a name ending in _table");
  }
}

}  // namespace

void initialize_parameters(torch::nn::Module& module, uint64_t seed) {
  const at::NoGradGuard no_gradient;
  const Parameters parameters = module.named_parameters();
  for (const auto& parameter : parameters) {
    initialize(parameter.value(), parameter.key(), parameters, seed);
  }
}

}  // namespace isobar
