// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/model/mlp.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace isobar::detail {

/// What an Mlp computes for a range of rows, as far as its backward pass needs it: [R, width] each,
/// of the computing type.
struct MlpTape {
  at::Tensor first;   ///< first Linear
  at::Tensor second;  ///< second Linear
  at::Tensor third;   ///< third Linear; undefined without LayerNorm

  MlpTape rows(int64_t begin, int64_t count) const;
};

/// Rows that a backward pass over a range needs beside the tape: [R, hidden] each, `at_third` [R,
/// out]. What is called at_x is the gradient at the result of Linear x.
struct MlpScratch {
  at::Tensor activated, slope;  ///< with a tape; undefined for an MlpAgain, which has its own
  at::Tensor at_first, at_second, at_third;

  MlpScratch first_rows(int64_t count) const;
};

/// The same as a tape, computed again for a backward pass, which wants no more of the first two
/// Linear than their GELUs and the slopes of these.
struct MlpAgain {
  at::Tensor first, second;              ///< GELUs
  at::Tensor first_slope, second_slope;  ///< of GELU; as `first` and `second`, [R, hidden]
  at::Tensor third;                      ///< as in a tape

  MlpAgain first_rows(int64_t count) const;
};

/// An Mlp's parameters as one pass uses them, and what the pass adds to their gradients. What
/// follows the first Linear is here; its products are the caller's, who knows where its inputs lie.
///
/// Matrices are of the computing type, vectors of the wide one (see wide_type); gradients are
/// summed in float64.
class MlpCore {
 public:
  /// `parameters`: weight and bias of three Linear and, if there is one, of the LayerNorm.
  MlpCore(const std::vector<at::Tensor>& parameters, c10::ScalarType compute);

  static constexpr int64_t kWithoutNorm = 6;
  static constexpr int64_t kWithNorm = 8;

  int64_t hidden() const { return second_.size(0); }
  int64_t out() const { return third_.size(0); }
  bool has_norm() const { return norm_weight_.defined(); }

  /// Rows for tapes: `rows` of them.
  MlpTape make_tape(int64_t rows, const at::TensorOptions& options) const;
  MlpScratch make_scratch(int64_t rows, const at::TensorOptions& options,
                          Activations activations) const;
  MlpAgain make_again(int64_t rows, const at::TensorOptions& options) const;

  const at::Tensor& first_bias() const { return first_bias_; }
  /// Columns of the first weight, [hidden, count].
  at::Tensor first_weight(int64_t begin, int64_t count) const;

  /// The first Linear of the rows of `parts` [R, k], side by side, into the tape; its GELU into
  /// `activated`.
  void start(const std::vector<at::Tensor>& parts, MlpTape& tape, at::Tensor& activated) const;
  /// From the first Linear's result, in the tape, and its GELU in `activated`, which is
  /// overwritten: out = residual + the Mlp's result. An undefined residual counts as zero.
  void finish(MlpTape& tape, at::Tensor& activated, const at::Tensor& residual,
              at::Tensor& out) const;

  /// As start() and finish(), for a backward pass alone; with an `out`, which may be undefined, for
  /// its result, too. start_again() makes `first` and `first_slope`.
  void start_again(const std::vector<at::Tensor>& parts, MlpAgain& again) const;
  void finish_again(MlpAgain& again, at::Tensor& out) const;

  /// The gradient at the first Linear's result, in scratch.at_first, from that at the Mlp's.
  /// Needs start_gradients() once before.
  void backward(const MlpTape& tape, const at::Tensor& gradient, MlpScratch& scratch);
  void backward(const MlpAgain& again, const at::Tensor& gradient, MlpScratch& scratch);

  void start_gradients();
  /// The first Linear's share of the gradients: `input` [R, k] was multiplied with the columns that
  /// begin at `column`, and `gradient` [R, hidden] is that at the result.
  void add_first_gradient(const at::Tensor& gradient, const at::Tensor& input, int64_t column);
  /// The same for the rows of `parts`, as in start().
  void add_first_gradients(const at::Tensor& gradient, const std::vector<at::Tensor>& parts);
  /// In the order and of the types of the parameters.
  std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& parameters) const;

 private:
  void first_linear(const std::vector<at::Tensor>& parts, at::Tensor& rows) const;
  /// From the gradient at the Mlp's result to scratch.at_second, and on to scratch.at_first.
  void backward_to_second(const at::Tensor& third, const at::Tensor& activated,
                          const at::Tensor& slope, const at::Tensor& gradient, MlpScratch& scratch);
  void backward_to_first(const at::Tensor& activated, const at::Tensor& slope, MlpScratch& scratch);

  at::Tensor first_, second_, third_;
  at::Tensor first_bias_, second_bias_, third_bias_, norm_weight_, norm_bias_;
  at::Tensor first_gradient_, second_gradient_, third_gradient_;
  at::Tensor first_sums_, second_sums_, third_sums_, norm_weight_sums_, norm_bias_sums_;
};

/// sum += a^T · b, of products in the type of a and b; in a wider sum, of blocks of rows.
void add_product(at::Tensor sum, const at::Tensor& a, const at::Tensor& b);

/// How many rows of `width` values go through a pass together: what stays in a processor's cache,
/// or, on other devices, what keeps them busy.
int64_t automatic_rows(int64_t width, const at::Tensor& like);

}  // namespace isobar::detail
