// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/ddp/compressor.hpp>
#include <isobar/ddp/reducer.hpp>
#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

namespace isobar::test {

/// Numbers in [-1, 1) that depend on nothing but these, in float64.
inline at::Tensor draw(at::IntArrayRef sizes, uint64_t seed, int64_t step, int64_t rank = 0) {
  auto values = at::empty(sizes, at::kDouble);
  uint64_t state = splitmix64(seed + 1) ^ splitmix64(static_cast<uint64_t>(1000 * step + rank + 7));
  for (int64_t i = 0; i < values.numel(); ++i) {
    state += kSplitmix64Step;
    values.data_ptr<double>()[i] = static_cast<double>(splitmix64(state) >> 11) * 0x1p-52 - 1;
  }
  return values;
}

/// Parameters whose gradients a test sets, behind a reducer.
struct CompressedModel {
  CompressedModel(std::vector<NamedParameter> list, Communicator& comm,
                  std::shared_ptr<Compressor> compressor, ReducerOptions options = {})
      : parameters(std::move(list)), reducer(parameters, comm, with(options, compressor)) {}
  CompressedModel(std::vector<NamedParameter> list, const ProcessGrid& grid,
                  std::shared_ptr<Compressor> compressor, ReducerOptions options = {})
      : parameters(std::move(list)), reducer(parameters, grid, with(options, compressor)) {}

  static ReducerOptions with(ReducerOptions options, std::shared_ptr<Compressor> compressor) {
    options.compressor = std::move(compressor);
    return options;
  }

  /// One step; afterwards `.grad` is what replaces the mean of the ranks' `gradients`.
  void step(const std::vector<at::Tensor>& gradients) {
    reducer.zero_grad();
    backward(gradients);
    reducer.finish();
  }

  /// Adds to the gradients; those that are not defined are of parameters that were not used.
  void backward(const std::vector<at::Tensor>& gradients) {
    at::Tensor loss = at::zeros({}, at::kDouble);
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (!gradients[i].defined()) continue;
      const auto& tensor = parameters[i].tensor;
      const auto product = (tensor * gradients[i].to(tensor.scalar_type())).sum();
      loss = loss + (product.is_complex() ? at::real(product) : product).to(at::kDouble);
    }
    loss.backward();
  }

  at::Tensor grad(size_t i) const { return parameters[i].tensor.grad(); }

  std::vector<NamedParameter> parameters;
  Reducer reducer;
};

inline NamedParameter parameter(const std::string& name, at::IntArrayRef sizes,
                                at::ScalarType type = at::kDouble) {
  return {name, at::ones(sizes, type).set_requires_grad(true)};
}

/// A tensor of a compressor's state; undefined where there is none.
inline at::Tensor remembered(const Compressor& compressor, const std::string& key) {
  for (const auto& [name, tensor] : compressor.state().tensors) {
    if (name == key) return tensor;
  }
  return {};
}

}  // namespace isobar::test
