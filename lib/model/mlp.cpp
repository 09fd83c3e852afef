// SPDX-License-Identifier: Apache-2.0
#include <isobar/model/mlp.hpp>
#include <ATen/ATen.h>

#include "model/mlp_rows.hpp"

namespace isobar {

// torch::nn::Linear and LayerNorm would draw from the process's generator when they are made.
class Mlp::Affine : public torch::nn::Module {
 public:
  Affine(const at::Tensor& initial_weight, int64_t out)
      : weight(register_parameter("weight", initial_weight)),
        bias(register_parameter("bias", at::zeros({out}))) {}

  const at::Tensor weight;
  const at::Tensor bias;
};

Mlp::Mlp(const MlpOptions& options) {
  const auto stack = register_module("mlp", std::make_shared<torch::nn::Module>("mlp"));
  const auto linear = [&](const char* name, int64_t in, int64_t out) {
    return stack->register_module(name, std::make_shared<Affine>(at::zeros({out, in}), out));
  };
  first_ = linear("0", options.in, options.hidden);
  second_ = linear("2", options.hidden, options.hidden);
  third_ = linear("4", options.hidden, options.out);
  if (options.layer_norm) {
    layer_norm_ = register_module("layer_norm",
                                  std::make_shared<Affine>(at::ones({options.out}), options.out));
  }
}

std::vector<at::Tensor> Mlp::ordered_parameters() const {
  std::vector<at::Tensor> all{first_->weight, first_->bias,   second_->weight,
                              second_->bias,  third_->weight, third_->bias};
  if (layer_norm_) all.insert(all.end(), {layer_norm_->weight, layer_norm_->bias});
  return all;
}

at::Tensor Mlp::forward(const at::Tensor& x) const {
  auto shape = x.sizes().vec();
  shape.back() = third_->bias.size(0);
  const at::Tensor rows = x.reshape({1, -1, x.size(-1)});
  return mlp_rows({rows}, ordered_parameters(), {}).view(shape);
}

at::Tensor Mlp::forward(const std::vector<at::Tensor>& parts, const RowOptions& options) const {
  return mlp_rows(parts, ordered_parameters(), options);
}

at::Tensor Mlp::forward_repeated(const at::Tensor& x, const RowOptions& options) const {
  auto parameters = ordered_parameters();
  const int64_t half = x.size(-1);
  parameters[0] = first_->weight.narrow(1, 0, half) + first_->weight.narrow(1, half, half);
  return mlp_rows({x}, parameters, options);
}

}  // namespace isobar
