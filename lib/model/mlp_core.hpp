// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/model/mlp.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <list>
#include <vector>

#include "model/mlp_kernels.hpp"
#include "model/products.hpp"

namespace isobar {

/// What an Mlp computes for a range of rows, as far as its backward pass needs it: [R, width] each,
/// of the computing type.
struct MlpTape {
  at::Tensor first;   ///< first Linear
  at::Tensor second;  ///< second Linear
  at::Tensor third;   ///< third Linear; undefined without LayerNorm

  MlpTape rows(int64_t begin, int64_t count) const;
};

/// Rows that a backward pass over a range needs beside the tape: [R, hidden] each, `grad_third` [R,
/// out]. What is called grad_x is the gradient at the result of Linear x.
struct MlpScratch {
  at::Tensor first,
      second;  ///< GELUs, with a tape; undefined for an RecomputedMlp, which has its own
  at::Tensor grad_first, grad_second, grad_third;

  MlpScratch first_rows(int64_t count) const;
};

/// The same as a tape, computed again for a backward pass, which wants no more of the first two
/// Linear than their GELUs and the slopes of these.
struct RecomputedMlp {
  at::Tensor first, second;              ///< GELUs
  at::Tensor first_slope, second_slope;  ///< see GeluLeaves; as `first` and `second`, [R, hidden]
  at::Tensor third;                      ///< as in a tape

  RecomputedMlp first_rows(int64_t count) const;
};

/// An Mlp's parameters as one pass uses them, and what the pass adds to their gradients. What
/// follows the first Linear is here; its products are the caller's, who knows where its inputs lie.
///
/// Matrices are of the computing type, vectors of vector_type. Gradients are float64: what each
/// call adds to them has been summed in the computing type or the wide one, see add_products and
/// NormSums, on devices over all rows of the call.
class MlpCore {
 public:
  /// `parameters`: weight and bias of three Linear and, if there is one, of the LayerNorm. `like`:
  /// rows of the type and on the device that it computes with.
  MlpCore(const std::vector<at::Tensor>& parameters, const at::Tensor& like);

  static constexpr int64_t kWithoutNorm = 6;
  static constexpr int64_t kWithNorm = 8;

  int64_t hidden() const { return second_.size(0); }
  int64_t out() const { return third_.size(0); }
  bool has_norm() const { return norm_.weight.defined(); }

  /// Rows for tapes: `rows` of them.
  MlpTape make_tape(int64_t rows, const at::TensorOptions& options) const;
  MlpScratch make_scratch(int64_t rows, const at::TensorOptions& options,
                          Activations activations) const;
  RecomputedMlp make_recomputed(int64_t rows, const at::TensorOptions& options) const;

  const at::Tensor& first_bias() const { return first_bias_; }
  /// Of the first Linear's columns: what rows [R, count] are multiplied with, and what the gradient
  /// at the result is. Made at the first call, on one thread; valid as long as the core.
  const Matrix& first_forward(int64_t begin, int64_t count) const;
  const Matrix& first_backward(int64_t begin, int64_t count) const;

  /// The first Linear of the rows of `parts` [R, k], side by side, into the tape; its GELU into
  /// `activated`.
  void start(const std::vector<at::Tensor>& parts, MlpTape& tape, at::Tensor& activated) const;
  /// From the first Linear's result, in the tape, and its GELU in `activated`, which is
  /// overwritten: out = residual + the Mlp's result. An undefined residual counts as zero.
  void finish(MlpTape& tape, at::Tensor& activated, const at::Tensor& residual,
              at::Tensor& out) const;

  /// As start() and finish(), for a backward pass alone; with an `out`, which may be undefined, for
  /// its result, too. recompute_start() makes `first` and `first_slope`.
  void recompute_start(const std::vector<at::Tensor>& parts, RecomputedMlp& recomputed) const;
  void recompute_finish(RecomputedMlp& recomputed, at::Tensor& out) const;

  /// Rows that were multiplied with the first weight's columns that begin at `column`, and the
  /// gradient at the result.
  struct FirstInput {
    at::Tensor gradient, input;
    int64_t column;
  };

  /// The gradient at the first Linear's result, in scratch.grad_first, from that at the Mlp's; and
  /// the shares of the weights, of the first one as far as `inputs`, whose gradients may be
  /// scratch.grad_first, say. Needs start_gradients() once before.
  void backward(const MlpTape& tape, const at::Tensor& gradient, MlpScratch& scratch,
                const std::vector<FirstInput>& inputs);
  void backward(const RecomputedMlp& recomputed, const at::Tensor& gradient, MlpScratch& scratch,
                const std::vector<FirstInput>& inputs);
  /// `parts` side by side, as in start().
  static std::vector<FirstInput> first_inputs(const at::Tensor& gradient,
                                              const std::vector<at::Tensor>& parts);

  /// Zeros, all in one tensor: a device has to be asked once.
  void start_gradients();
  /// More of the first weight's share.
  void add_first_gradient(const FirstInput& input);
  /// In the order and of the types of the parameters.
  std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& parameters) const;

 private:
  /// Matrices of some columns of the first weight, made when they are asked for.
  struct FirstColumns {
    int64_t begin, count;
    Matrix matrix;
  };
  using Columns = std::list<FirstColumns>;
  static const Matrix& columns_of(Columns& made, const at::Tensor& weight, int64_t begin,
                                  int64_t count, bool forward);
  std::vector<Operand> first_operands(const std::vector<at::Tensor>& parts) const;
  const Matrix& made(Matrix& matrix, const at::Tensor& values) const;
  /// The gradient at the third Linear's result.
  at::Tensor backward_norm(const at::Tensor& third, const at::Tensor& gradient,
                           MlpScratch& scratch);
  void add_gradients(const at::Tensor& grad_third, const at::Tensor& second,
                     const at::Tensor& first, const MlpScratch& scratch,
                     const std::vector<FirstInput>& inputs);
  OuterProducts first_product(const FirstInput& input) const;
  std::vector<at::Tensor> parameters() const;
  std::vector<at::Tensor*> parts_of_gradients();

  at::Tensor first_, second_, third_;  // weights, [out, in]
  at::Tensor first_bias_, second_bias_, third_bias_;
  NormWeights norm_;
  mutable Columns first_forward_, first_backward_;
  mutable Matrix second_forward_, third_forward_, second_backward_, third_backward_;
  at::Tensor gradients_;  // float64, one after another in the parameters' order; below, parts of it
  at::Tensor first_gradient_, second_gradient_, third_gradient_;
  at::Tensor first_sums_, second_sums_, third_sums_, norm_weight_sums_, norm_bias_sums_;
};

/// What a tensor of the rows that go through a pass together takes on the CPU, where it should stay
/// in a cache, and on other devices, where it should keep them busy.
constexpr int64_t kProcessorBytes = int64_t{1} << 20, kDeviceBytes = int64_t{128} << 20;

/// How many rows of `width` values go through a pass together.
int64_t automatic_rows(int64_t width, const at::Tensor& like);

}  // namespace isobar
