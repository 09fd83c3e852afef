// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "compress/world.hpp"

namespace isobar::test {

/// A rank's gradients of a step.
using Gradients = std::function<std::vector<at::Tensor>(int64_t step, int rank)>;

/// Matrices of several shapes that two-column factors compress, and a vector and a narrow
/// table, which they do not.
inline std::vector<NamedParameter> matrices_and_dense(at::ScalarType type = at::kDouble) {
  return {parameter("square", {12, 12}, type),     parameter("wide", {7, 30}, type),
          parameter("vector", {9}, type),          parameter("tall", {31, 8}, type),
          parameter("kernel", {6, 4, 3, 3}, type), parameter("table", {40, 3}, type)};
}

/// Random gradients of `like`'s shapes.
inline Gradients random_gradients(const std::vector<NamedParameter>& like) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> shapes;
  for (const auto& p : like) shapes.emplace_back(p.name, p.tensor.sizes().vec());
  return [shapes](int64_t step, int rank) {
    std::vector<at::Tensor> gradients;
    for (const auto& [name, sizes] : shapes) {
      gradients.push_back(draw(sizes, fnv1a(name), step, rank));
    }
    return gradients;
  };
}

/// The mean over `ranks` ranks of parameter p's gradients.
inline at::Tensor mean_gradient(const Gradients& gradients, int64_t step, int ranks, size_t p,
                                at::IntArrayRef sizes) {
  auto sum = at::zeros(sizes, at::kDouble);
  for (int r = 0; r < ranks; ++r) {
    const auto gradient = gradients(step, r)[p];
    if (gradient.defined()) sum += gradient;
  }
  return sum / ranks;
}

/// What the ranks' gradients came to, parameter by parameter, and what was put in their place.
/// What is missing has to be in the residuals.
class ConservationCheck {
 public:
  explicit ConservationCheck(const CompressedModel& model) {
    for (const auto& p : model.parameters) {
      gradients_.push_back(at::zeros(p.tensor.sizes(), at::kDouble));
      results_.push_back(at::zeros(p.tensor.sizes(), at::kDouble));
    }
  }

  void add_gradients(const Gradients& gradients, int64_t step, int ranks) {
    for (size_t p = 0; p < gradients_.size(); ++p) {
      gradients_[p] += mean_gradient(gradients, step, ranks, p, gradients_[p].sizes());
    }
  }
  void add_results(const CompressedModel& model) {
    for (size_t p = 0; p < results_.size(); ++p) results_[p] += model.grad(p).to(at::kDouble);
  }

  /// Collective.
  void expect_conserved(const CompressedModel& model, const Compressor& compressor,
                        Communicator& comm, double tolerance = 1e-10) const {
    for (size_t p = 0; p < results_.size(); ++p) {
      const auto& name = model.parameters[p].name;
      auto residuals = at::zeros(gradients_[p].sizes(), at::kDouble);
      const auto residual = remembered(compressor, name + ".residual");
      if (residual.defined()) residuals.copy_(residual.view(residuals.sizes()));
      comm.allreduce(residuals).wait();
      const auto missing = gradients_[p] - results_[p] - residuals / comm.size();
      const double scale = std::max(1.0, gradients_[p].abs().max().item<double>());
      EXPECT_LT(missing.abs().max().item<double>(), tolerance * scale) << name;
    }
  }

 private:
  std::vector<at::Tensor> gradients_, results_;
};

}  // namespace isobar::test
