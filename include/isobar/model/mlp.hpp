// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>

namespace isobar {

struct MlpOptions {
  int64_t in = 0;
  int64_t hidden = 0;
  int64_t out = 0;
  bool layer_norm = true;  ///< ends with LayerNorm over the outputs, eps 1e-5
};

/// Linear, GELU (by erf), Linear, GELU, Linear and, if asked for, LayerNorm.
///
/// Parameters: mlp.0, mlp.2, mlp.4 and layer_norm, each with weight and bias;
/// Linear weights are [out, in]. All are zero, LayerNorm's weight one, until
/// initialize_parameters or a checkpoint fills them.
///
/// The first Linear can be applied in parts: of an input that is a
/// concatenation [a, b], `from_projection(project(a, 0) + project(b, a.size(-1)))`
/// is `forward` of it without the concatenation; see GraphConv for why.
class Mlp : public torch::nn::Module {
 public:
  explicit Mlp(const MlpOptions& options);

  /// [..., in] -> [..., out].
  at::Tensor forward(const at::Tensor& x) const;

  /// The first Linear's share of the inputs that start at `first_column`:
  /// [..., k] -> [..., hidden]. The share of the first inputs has the bias.
  at::Tensor project(const at::Tensor& x, int64_t first_column) const;

  /// project(x, 0) + project(x, in / 2): the first Linear of [x, x].
  at::Tensor project_repeated(const at::Tensor& x) const;

  /// What follows the first Linear: [..., hidden] -> [..., out].
  at::Tensor from_projection(const at::Tensor& projection) const;

 private:
  class Linear;
  class LayerNorm;

  std::shared_ptr<Linear> first_;
  std::shared_ptr<Linear> second_;
  std::shared_ptr<Linear> third_;
  std::shared_ptr<LayerNorm> layer_norm_;  // null without
};

}  // namespace isobar
