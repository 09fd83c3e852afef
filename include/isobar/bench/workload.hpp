// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace isobar::bench {

/// A network and this rank's data: what a step computes.
struct Workload {
  std::shared_ptr<torch::nn::Module> module;
  /// The forward pass: the mean loss over this rank's samples, a scalar.
  std::function<at::Tensor()> loss;
  /// Of both; a device does its work after it was asked.
  at::Device device = at::kCPU;
};

/// Waits until the device has done what it was asked for. Blocks.
void wait_for(at::Device device);

/// Makes a workload whose weights are the same at every call and on every rank.
using MakeWorkload = std::function<Workload()>;

struct LinearStackOptions {
  int64_t layers = 8;
  int64_t width = 1024;
  int64_t batch = 128;
  uint64_t seed = 0;
  at::Device device = at::kCPU;
  /// What each layer's forward pass takes more, and its backward pass twice, without a core being
  /// busy: as an accelerator's would. For steps of machines that are not at hand.
  double emulated_s = 0;
};

/// `layers` Linear of `width` with ReLU between them, and the mean square error to a
/// target: the network whose step PyTorch's users know best how to overlap. Weights
/// "layers.I.weight" and "layers.I.bias" are random_values() within 1/sqrt(width) of
/// those names; input and target are within 1, of the names "input R" and "target R"
/// for rank R. bench/baselines/torch_ddp.py makes the same.
Workload make_linear_stack(const LinearStackOptions& options, int rank);

/// The tensors that a step updates, in the order of the module's registration.
std::vector<at::Tensor> trainable_parameters(const torch::nn::Module& module);

/// Copies the values of the parameters, of which both have the same.
void copy_parameters(const torch::nn::Module& from, const torch::nn::Module& to);

}  // namespace isobar::bench
