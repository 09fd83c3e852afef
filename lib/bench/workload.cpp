// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/workload.hpp>

#include <isobar/bench/random_values.hpp>
#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/relu.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>

#include <chrono>
#include <cmath>
#include <thread>

namespace isobar::bench {
namespace {

/// What an accelerator computes meanwhile is its own; this thread waits for it.
at::Tensor emulate(const at::Tensor& output, double seconds) {
  if (seconds <= 0) return output;
  const auto wait = [](double s) { std::this_thread::sleep_for(std::chrono::duration<double>(s)); };
  wait(seconds);
  // Before the layer's own gradients, which come from this one.
  output.register_hook([wait, seconds](const at::Tensor&) { wait(2 * seconds); });
  return output;
}

class LinearStack : public torch::nn::Module {
 public:
  explicit LinearStack(const LinearStackOptions& options) : emulated_s_(options.emulated_s) {
    const double bound = 1 / std::sqrt(static_cast<double>(options.width));
    for (int64_t i = 0; i < options.layers; ++i) {
      const auto name = "layers." + std::to_string(i);
      const auto layer = std::make_shared<torch::nn::Module>();
      const auto add = [&](const std::string& key, at::IntArrayRef shape) {
        return layer->register_parameter(
            key, random_values(shape, bound, options.seed, name + "." + key));
      };
      weights_.push_back(add("weight", {options.width, options.width}));
      biases_.push_back(add("bias", {options.width}));
      list_->register_module(std::to_string(i), layer);
    }
    register_module("layers", list_);
  }

  at::Tensor forward(at::Tensor x) const {
    for (size_t i = 0; i < weights_.size(); ++i) {
      x = emulate(at::linear(i == 0 ? x : at::relu(x), weights_[i], biases_[i]), emulated_s_);
    }
    return x;
  }

 private:
  double emulated_s_;
  std::shared_ptr<torch::nn::Module> list_ = std::make_shared<torch::nn::Module>();
  std::vector<at::Tensor> weights_;
  std::vector<at::Tensor> biases_;
};

}  // namespace

Workload make_linear_stack(const LinearStackOptions& options, int rank) {
  const auto module = std::make_shared<LinearStack>(options);
  const auto data = [&](const std::string& name) {
    return random_values({options.batch, options.width}, 1, options.seed,
                         name + " " + std::to_string(rank))
        .to(options.device);
  };
  module->to(options.device);
  return {
      .module = module,
      .loss = [module, input = data("input"),
               target = data("target")] { return at::mse_loss(module->forward(input), target); },
      .device = options.device};
}

void wait_for(at::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

std::vector<at::Tensor> trainable_parameters(const torch::nn::Module& module) {
  std::vector<at::Tensor> found;
  for (const auto& tensor : module.parameters()) {
    if (tensor.requires_grad()) found.push_back(tensor);
  }
  return found;
}

void copy_parameters(const torch::nn::Module& from, const torch::nn::Module& to) {
  const c10::NoGradGuard no_gradient;
  auto target = to.named_parameters();
  for (const auto& item : from.named_parameters()) target[item.key()].copy_(item.value());
}

}  // namespace isobar::bench
