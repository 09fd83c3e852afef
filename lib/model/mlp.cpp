// SPDX-License-Identifier: Apache-2.0
#include <isobar/model/mlp.hpp>
#include <ATen/ATen.h>

namespace isobar {

// torch::nn::Linear and LayerNorm would draw from the process's generator when they are made.
class Mlp::Linear : public torch::nn::Module {
 public:
  Linear(int64_t in, int64_t out)
      : weight(register_parameter("weight", at::zeros({out, in}))),
        bias(register_parameter("bias", at::zeros({out}))) {}

  at::Tensor forward(const at::Tensor& x) const { return at::linear(x, weight, bias); }

  const at::Tensor weight;
  const at::Tensor bias;
};

class Mlp::LayerNorm : public torch::nn::Module {
 public:
  explicit LayerNorm(int64_t size)
      : weight_(register_parameter("weight", at::ones({size}))),
        bias_(register_parameter("bias", at::zeros({size}))) {}

  at::Tensor forward(const at::Tensor& x) const {
    return at::layer_norm(x, weight_.sizes(), weight_, bias_, 1e-5);
  }

 private:
  at::Tensor weight_;
  at::Tensor bias_;
};

Mlp::Mlp(const MlpOptions& options) {
  const auto stack = register_module("mlp", std::make_shared<torch::nn::Module>("mlp"));
  first_ = stack->register_module("0", std::make_shared<Linear>(options.in, options.hidden));
  second_ = stack->register_module("2", std::make_shared<Linear>(options.hidden, options.hidden));
  third_ = stack->register_module("4", std::make_shared<Linear>(options.hidden, options.out));
  if (options.layer_norm) {
    layer_norm_ = register_module("layer_norm", std::make_shared<LayerNorm>(options.out));
  }
}

at::Tensor Mlp::forward(const at::Tensor& x) const { return from_projection(first_->forward(x)); }

at::Tensor Mlp::project(const at::Tensor& x, int64_t first_column) const {
  const at::Tensor columns = first_->weight.narrow(1, first_column, x.size(-1));
  return first_column == 0 ? at::linear(x, columns, first_->bias) : at::linear(x, columns);
}

at::Tensor Mlp::project_repeated(const at::Tensor& x) const {
  const int64_t half = x.size(-1);
  const at::Tensor both = first_->weight.narrow(1, 0, half) + first_->weight.narrow(1, half, half);
  return at::linear(x, both, first_->bias);
}

at::Tensor Mlp::from_projection(const at::Tensor& projection) const {
  const at::Tensor result = third_->forward(at::gelu(second_->forward(at::gelu(projection))));
  return layer_norm_ ? layer_norm_->forward(result) : result;
}

}  // namespace isobar
