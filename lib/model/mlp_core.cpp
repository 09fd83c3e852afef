// SPDX-License-Identifier: Apache-2.0
#include "model/mlp_core.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/mlp_kernels.hpp"

namespace isobar::detail {
namespace {

/// Rows whose products are summed in their own type. A gradient sums many terms that cancel: over
/// all rows in float32, it would depend by some 1e-6 of its size on how these are shared out.
constexpr int64_t kSummedRows = 512;

at::Tensor first_rows(const at::Tensor& x, int64_t count) {
  return x.defined() ? x.narrow(0, 0, count) : x;
}

}  // namespace

MlpTape MlpTape::rows(int64_t begin, int64_t count) const {
  return {first.narrow(0, begin, count), second.narrow(0, begin, count),
          third.defined() ? third.narrow(0, begin, count) : third};
}

MlpScratch MlpScratch::first_rows(int64_t count) const {
  return {detail::first_rows(activated, count), detail::first_rows(slope, count),
          detail::first_rows(at_first, count), detail::first_rows(at_second, count),
          detail::first_rows(at_third, count)};
}

MlpAgain MlpAgain::first_rows(int64_t count) const {
  return {detail::first_rows(first, count), detail::first_rows(second, count),
          detail::first_rows(first_slope, count), detail::first_rows(second_slope, count),
          detail::first_rows(third, count)};
}

MlpCore::MlpCore(const std::vector<at::Tensor>& parameters, c10::ScalarType compute) {
  const auto matrix = [&](size_t i) { return parameters[i].to(compute); };
  const auto vector = [&](size_t i) { return parameters[i].to(wide_type(compute)).contiguous(); };
  first_ = matrix(0);
  first_bias_ = vector(1);
  second_ = matrix(2);
  second_bias_ = vector(3);
  third_ = matrix(4);
  third_bias_ = vector(5);
  if (static_cast<int64_t>(parameters.size()) < kWithNorm) return;
  norm_weight_ = vector(6);
  norm_bias_ = vector(7);
}

MlpTape MlpCore::make_tape(int64_t rows, const at::TensorOptions& options) const {
  return {at::empty({rows, hidden()}, options), at::empty({rows, hidden()}, options),
          has_norm() ? at::empty({rows, out()}, options) : at::Tensor()};
}

MlpScratch MlpCore::make_scratch(int64_t rows, const at::TensorOptions& options,
                                 Activations activations) const {
  const auto make = [&](int64_t width) { return at::empty({rows, width}, options); };
  MlpScratch scratch{{}, {}, make(hidden()), make(hidden()), make(out())};
  if (activations == Activations::keep) {
    scratch.activated = make(hidden());
    scratch.slope = make(hidden());
  }
  return scratch;
}

MlpAgain MlpCore::make_again(int64_t rows, const at::TensorOptions& options) const {
  const auto make = [&](int64_t width) { return at::empty({rows, width}, options); };
  return {make(hidden()), make(hidden()), make(hidden()), make(hidden()),
          has_norm() ? make(out()) : at::Tensor()};
}

at::Tensor MlpCore::first_weight(int64_t begin, int64_t count) const {
  return first_.narrow(1, begin, count);
}

void MlpCore::first_linear(const std::vector<at::Tensor>& parts, at::Tensor& rows) const {
  int64_t column = 0;
  for (const at::Tensor& part : parts) {
    const at::Tensor weight = first_weight(column, part.size(1)).t();
    if (column == 0) {
      at::mm_out(rows, part, weight);
    } else {
      rows.addmm_(part, weight);
    }
    column += part.size(1);
  }
}

void MlpCore::start(const std::vector<at::Tensor>& parts, MlpTape& tape,
                    at::Tensor& activated) const {
  first_linear(parts, tape.first);
  add_bias_gelu(tape.first, first_bias_, activated, GeluLeaves::rows);
}

void MlpCore::start_again(const std::vector<at::Tensor>& parts, MlpAgain& again) const {
  first_linear(parts, again.first_slope);
  add_bias_gelu(again.first_slope, first_bias_, again.first, GeluLeaves::slope);
}

void MlpCore::finish(MlpTape& tape, at::Tensor& activated, const at::Tensor& residual,
                     at::Tensor& out) const {
  at::mm_out(tape.second, activated, second_.t());
  add_bias_gelu(tape.second, second_bias_, activated, GeluLeaves::rows);
  at::Tensor& product = has_norm() ? tape.third : out;
  at::addmm_out(product, third_bias_.to(product.scalar_type()), activated, third_.t());
  if (has_norm()) {
    layer_norm(product, norm_weight_, norm_bias_, residual, out);
  } else if (residual.defined()) {
    out.add_(residual);
  }
}

void MlpCore::finish_again(MlpAgain& again, at::Tensor& out) const {
  at::mm_out(again.second_slope, again.first, second_.t());
  add_bias_gelu(again.second_slope, second_bias_, again.second, GeluLeaves::slope);
  if (!has_norm()) return;
  at::addmm_out(again.third, third_bias_.to(again.third.scalar_type()), again.second, third_.t());
  if (out.defined()) layer_norm(again.third, norm_weight_, norm_bias_, {}, out);
}

void MlpCore::backward(const MlpTape& tape, const at::Tensor& gradient, MlpScratch& scratch) {
  gelu_and_slope(tape.second, scratch.activated, scratch.slope);
  backward_to_second(tape.third, scratch.activated, scratch.slope, gradient, scratch);
  gelu_and_slope(tape.first, scratch.activated, scratch.slope);
  backward_to_first(scratch.activated, scratch.slope, scratch);
}

void MlpCore::backward(const MlpAgain& again, const at::Tensor& gradient, MlpScratch& scratch) {
  backward_to_second(again.third, again.second, again.second_slope, gradient, scratch);
  backward_to_first(again.first, again.first_slope, scratch);
}

void MlpCore::backward_to_second(const at::Tensor& third, const at::Tensor& activated,
                                 const at::Tensor& slope, const at::Tensor& gradient,
                                 MlpScratch& scratch) {
  at::Tensor at_third = gradient;
  if (has_norm()) {
    NormSums sums{norm_weight_sums_, norm_bias_sums_, third_sums_};
    layer_norm_backward(third, norm_weight_, gradient, scratch.at_third, sums);
    at_third = scratch.at_third;
  } else {
    third_sums_.add_(gradient.to(third_sums_.scalar_type()).sum(0));
  }
  add_product(third_gradient_, at_third, activated);
  at::mm_out(scratch.at_second, at_third, third_);
  scale_and_sum(slope, scratch.at_second, second_sums_);
}

void MlpCore::backward_to_first(const at::Tensor& activated, const at::Tensor& slope,
                                MlpScratch& scratch) {
  add_product(second_gradient_, scratch.at_second, activated);
  at::mm_out(scratch.at_first, scratch.at_second, second_);
  scale_and_sum(slope, scratch.at_first, first_sums_);
}

void MlpCore::start_gradients() {
  const auto zeros = [&](const at::Tensor& like) {
    return like.defined() ? at::zeros(like.sizes(), like.options().dtype(at::kDouble))
                          : at::Tensor();
  };
  first_gradient_ = zeros(first_);
  second_gradient_ = zeros(second_);
  third_gradient_ = zeros(third_);
  first_sums_ = zeros(first_bias_);
  second_sums_ = zeros(second_bias_);
  third_sums_ = zeros(third_bias_);
  norm_weight_sums_ = zeros(norm_weight_);
  norm_bias_sums_ = zeros(norm_bias_);
}

void MlpCore::add_first_gradient(const at::Tensor& gradient, const at::Tensor& input,
                                 int64_t column) {
  add_product(first_gradient_.narrow(1, column, input.size(1)), gradient, input);
}

void MlpCore::add_first_gradients(const at::Tensor& gradient,
                                  const std::vector<at::Tensor>& parts) {
  int64_t column = 0;
  for (const at::Tensor& part : parts) {
    add_first_gradient(gradient, part, column);
    column += part.size(1);
  }
}

std::vector<at::Tensor> MlpCore::gradients(const std::vector<at::Tensor>& parameters) const {
  std::vector<at::Tensor> result{first_gradient_, first_sums_, second_gradient_,  second_sums_,
                                 third_gradient_, third_sums_, norm_weight_sums_, norm_bias_sums_};
  result.resize(parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    result[i] = result[i].to(parameters[i].scalar_type());
  }
  return result;
}

void add_product(at::Tensor sum, const at::Tensor& a, const at::Tensor& b) {
  if (sum.scalar_type() == a.scalar_type()) {
    sum.addmm_(a.t(), b);
    return;
  }
  // No fewer rows than columns: blocks' products together are no larger than a and b.
  const int64_t rows = std::max({kSummedRows, a.size(1), b.size(1)});
  const int64_t blocks = a.size(0) / rows, rest = a.size(0) % rows;
  const auto first = [&](const at::Tensor& x) {
    return x.narrow(0, 0, blocks * rows).reshape({blocks, rows, x.size(1)});
  };
  const auto last = [&](const at::Tensor& x) { return x.narrow(0, x.size(0) - rest, rest); };
  if (blocks > 0) sum.add_(first(a).transpose(1, 2).bmm(first(b)).sum(0, false, at::kDouble));
  if (rest > 0) sum.add_(last(a).t().mm(last(b)));
}

int64_t automatic_rows(int64_t width, const at::Tensor& like) {
  const int64_t bytes = like.is_cpu() ? int64_t{1} << 20 : int64_t{64} << 20;
  return std::max<int64_t>(64, bytes / (width * static_cast<int64_t>(like.element_size())));
}

}  // namespace isobar::detail
