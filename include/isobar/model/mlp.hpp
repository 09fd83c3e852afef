// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace isobar {

struct MlpOptions {
  int64_t in = 0;
  int64_t hidden = 0;
  int64_t out = 0;
  bool layer_norm = true;  ///< ends with LayerNorm over the outputs, eps 1e-5
};

/// What a forward pass leaves for the backward one.
///
/// - `keep`: the results of matrix products; GELU and LayerNorm are computed
///   again. Three values a row and channel.
/// - `recompute`: its inputs alone. The backward pass computes everything again,
///   a chunk of rows at a time: about a third more products in all.
enum class Activations { keep, recompute };

/// How an Mlp goes over its rows.
struct RowOptions {
  bool residual = false;  ///< adds the first part to the result
  Activations activations = Activations::keep;
  int64_t chunk_rows = 0;  ///< rows that are computed together; 0: chosen for the device
};

/// Linear, GELU (by erf), Linear, GELU, Linear and, if asked for, LayerNorm.
///
/// Parameters: mlp.0, mlp.2, mlp.4 and layer_norm, each with weight and bias;
/// Linear weights are [out, in]. All are zero, LayerNorm's weight one, until
/// initialize_parameters or a checkpoint fills them.
///
/// Computes in the type of its input: products in 16 bits where that is
/// bfloat16 or float16, norms in float32; gradients of parameters are summed over
/// blocks of rows in float64. Parameters and their gradients keep their own type. Results and
/// gradients repeat to the bit for one number of threads. Differentiable once.
class Mlp : public torch::nn::Module {
 public:
  explicit Mlp(const MlpOptions& options);

  /// [..., in] -> [..., out].
  at::Tensor forward(const at::Tensor& x) const;

  /// The same of inputs that lie in parts, without putting them side by side:
  /// each [B, N, k] or, where all samples share it, [1, N, k], all k adding up to
  /// `in`. The result is [B, N, out].
  at::Tensor forward(const std::vector<at::Tensor>& parts, const RowOptions& options) const;

  /// forward({x, x}) with one product instead of two.
  at::Tensor forward_repeated(const at::Tensor& x, const RowOptions& options) const;

  /// Weight and bias of each Linear and of the LayerNorm, in this order.
  std::vector<at::Tensor> ordered_parameters() const;

 private:
  class Affine;

  std::shared_ptr<Affine> first_, second_, third_;
  std::shared_ptr<Affine> layer_norm_;  // null without
};

}  // namespace isobar
