// SPDX-License-Identifier: Apache-2.0
// An Mlp's arithmetic over some rows, for mlp_rows.cpp (graph nodes, embeddings) and
// message_pass.cpp (edges). One object serves one pass, on the thread of that pass: the matrices
// that it needs it makes when they are first asked for, without a lock. Threads share out blocks of
// rows inside the kernels.
//
// A pass calls it chunk after chunk, and the parameters' gradients are sums over all of them. They
// are kept in float64 and rounded to the parameters' type once, at the end: in 16 bits such a sum
// would soon stand still, and in float32 it would lose digits with every further chunk.
#include "model/mlp_core.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace isobar {
namespace {

at::Tensor first_rows(const at::Tensor& x, int64_t count) {
  return x.defined() ? x.narrow(0, 0, count) : x;
}

}  // namespace

MlpTape MlpTape::rows(int64_t begin, int64_t count) const {
  return {first.narrow(0, begin, count), second.narrow(0, begin, count),
          third.defined() ? third.narrow(0, begin, count) : third};
}

MlpScratch MlpScratch::first_rows(int64_t count) const {
  return {isobar::first_rows(first, count), isobar::first_rows(second, count),
          isobar::first_rows(grad_first, count), isobar::first_rows(grad_second, count),
          isobar::first_rows(grad_third, count)};
}

RecomputedMlp RecomputedMlp::first_rows(int64_t count) const {
  return {isobar::first_rows(first, count), isobar::first_rows(second, count),
          isobar::first_rows(first_slope, count), isobar::first_rows(second_slope, count),
          isobar::first_rows(third, count)};
}

MlpCore::MlpCore(const std::vector<at::Tensor>& parameters, const at::Tensor& like) {
  const auto matrix = [&](size_t i) { return parameters[i].to(like.scalar_type()); };
  const auto vector = [&](size_t i) { return parameters[i].to(vector_type(like)).contiguous(); };
  first_ = matrix(0);
  first_bias_ = vector(1);
  second_ = matrix(2);
  second_bias_ = vector(3);
  third_ = matrix(4);
  third_bias_ = vector(5);
  if (static_cast<int64_t>(parameters.size()) < kWithNorm) return;
  norm_ = {vector(6), vector(7)};
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
    scratch.first = make(hidden());
    scratch.second = make(hidden());
  }
  return scratch;
}

RecomputedMlp MlpCore::make_recomputed(int64_t rows, const at::TensorOptions& options) const {
  const auto make = [&](int64_t width) { return at::empty({rows, width}, options); };
  return {make(hidden()), make(hidden()), make(hidden()), make(hidden()),
          has_norm() ? make(out()) : at::Tensor()};
}

const Matrix& MlpCore::columns_of(Columns& made, const at::Tensor& weight, int64_t begin,
                                  int64_t count, bool forward) {
  const auto found = std::find_if(made.begin(), made.end(), [&](const FirstColumns& columns) {
    return columns.begin == begin && columns.count == count;
  });
  if (found != made.end()) return found->matrix;
  const at::Tensor values = weight.narrow(1, begin, count);
  made.push_back({begin, count, Matrix(forward ? values.t() : values)});
  return made.back().matrix;
}

const Matrix& MlpCore::first_forward(int64_t begin, int64_t count) const {
  return columns_of(first_forward_, first_, begin, count, true);
}

const Matrix& MlpCore::first_backward(int64_t begin, int64_t count) const {
  return columns_of(first_backward_, first_, begin, count, false);
}

const Matrix& MlpCore::made(Matrix& matrix, const at::Tensor& values) const {
  if (!matrix.values().defined()) matrix = Matrix(values);
  return matrix;
}

std::vector<Operand> MlpCore::first_operands(const std::vector<at::Tensor>& parts) const {
  std::vector<Operand> operands;
  int64_t column = 0;
  for (const at::Tensor& part : parts) {
    operands.push_back({part, first_forward(column, part.size(1))});
    column += part.size(1);
  }
  return operands;
}

void MlpCore::start(const std::vector<at::Tensor>& parts, MlpTape& tape,
                    at::Tensor& activated) const {
  linear_gelu(first_operands(parts), first_bias_, tape.first, activated, GeluLeaves::rows);
}

void MlpCore::recompute_start(const std::vector<at::Tensor>& parts,
                              RecomputedMlp& recomputed) const {
  linear_gelu(first_operands(parts), first_bias_, recomputed.first_slope, recomputed.first,
              GeluLeaves::slope);
}

void MlpCore::finish(MlpTape& tape, at::Tensor& activated, const at::Tensor& residual,
                     at::Tensor& out) const {
  const Matrix& second = made(second_forward_, second_.t());
  const Matrix& third = made(third_forward_, third_.t());
  linear_gelu({{activated, second}}, second_bias_, tape.second, activated, GeluLeaves::rows);
  if (has_norm()) {
    linear_norm({activated, third}, third_bias_, norm_, residual, tape.third, out);
    return;
  }
  linear({activated, third}, third_bias_, out);
  if (residual.defined()) out.add_(residual);
}

void MlpCore::recompute_finish(RecomputedMlp& recomputed, at::Tensor& out) const {
  linear_gelu({{recomputed.first, made(second_forward_, second_.t())}}, second_bias_,
              recomputed.second_slope, recomputed.second, GeluLeaves::slope);
  if (!has_norm()) return;
  const Operand operand{recomputed.second, made(third_forward_, third_.t())};
  if (out.defined()) {
    linear_norm(operand, third_bias_, norm_, {}, recomputed.third, out);
  } else {
    linear(operand, third_bias_, recomputed.third);
  }
}

// With z_i the result of Linear i, h_i = gelu(z_i), h_0 the input and g_i the gradient at z_i,
//     g_2 = (g_3 W3) gelu'(z_2),   g_1 = (g_2 W2) gelu'(z_1),
//     dW_i += g_i' h_{i-1},        db_i += the columns' sums of g_i,
// where gelu(z) = z P(z), gelu'(z) = P(z) + z p(z) for the normal distribution P and its density p
// (Hendrycks and Gimpel 2016). g_3 is the gradient at the result, back through the norm if there is
// one (norm_backward_row). The gradient at the input, g_1 W1, is the caller's, who has it in parts.
void MlpCore::backward(const MlpTape& tape, const at::Tensor& gradient, MlpScratch& scratch,
                       const std::vector<FirstInput>& inputs) {
  const at::Tensor grad_third = backward_norm(tape.third, gradient, scratch);
  linear_backward_gelu({grad_third, made(third_backward_, third_)}, tape.second, scratch.second,
                       scratch.grad_second, second_sums_);
  linear_backward_gelu({scratch.grad_second, made(second_backward_, second_)}, tape.first,
                       scratch.first, scratch.grad_first, first_sums_);
  add_gradients(grad_third, scratch.second, scratch.first, scratch, inputs);
}

void MlpCore::backward(const RecomputedMlp& recomputed, const at::Tensor& gradient,
                       MlpScratch& scratch, const std::vector<FirstInput>& inputs) {
  const at::Tensor grad_third = backward_norm(recomputed.third, gradient, scratch);
  linear_backward({grad_third, made(third_backward_, third_)}, recomputed.second_slope,
                  scratch.grad_second, second_sums_);
  linear_backward({scratch.grad_second, made(second_backward_, second_)}, recomputed.first_slope,
                  scratch.grad_first, first_sums_);
  add_gradients(grad_third, recomputed.second, recomputed.first, scratch, inputs);
}

at::Tensor MlpCore::backward_norm(const at::Tensor& third, const at::Tensor& gradient,
                                  MlpScratch& scratch) {
  if (!has_norm()) {
    third_sums_.add_(gradient.sum({0}, false, third_sums_.scalar_type()));
    return gradient;
  }
  NormSums sums{norm_weight_sums_, norm_bias_sums_, third_sums_};
  layer_norm_backward(third, norm_.weight, gradient, scratch.grad_third, sums);
  return scratch.grad_third;
}

/// In one go, so that threads share all of them.
void MlpCore::add_gradients(const at::Tensor& grad_third, const at::Tensor& second,
                            const at::Tensor& first, const MlpScratch& scratch,
                            const std::vector<FirstInput>& inputs) {
  std::vector<OuterProducts> all{{third_gradient_, grad_third, second},
                                 {second_gradient_, scratch.grad_second, first}};
  for (const FirstInput& input : inputs) all.push_back(first_product(input));
  add_products(all);
}

std::vector<MlpCore::FirstInput> MlpCore::first_inputs(const at::Tensor& gradient,
                                                       const std::vector<at::Tensor>& parts) {
  std::vector<FirstInput> inputs;
  int64_t column = 0;
  for (const at::Tensor& part : parts) {
    inputs.push_back({gradient, part, column});
    column += part.size(1);
  }
  return inputs;
}

OuterProducts MlpCore::first_product(const FirstInput& input) const {
  return {first_gradient_.narrow(1, input.column, input.input.size(1)), input.gradient,
          input.input};
}

void MlpCore::add_first_gradient(const FirstInput& input) { add_products({first_product(input)}); }

std::vector<at::Tensor*> MlpCore::parts_of_gradients() {
  return {&first_gradient_, &first_sums_, &second_gradient_,  &second_sums_,
          &third_gradient_, &third_sums_, &norm_weight_sums_, &norm_bias_sums_};
}

std::vector<at::Tensor> MlpCore::parameters() const {
  return {first_, first_bias_, second_,      second_bias_,
          third_, third_bias_, norm_.weight, norm_.shift};
}

void MlpCore::start_gradients() {
  int64_t total = 0;
  for (const at::Tensor& like : parameters()) total += like.defined() ? like.numel() : 0;
  gradients_ = at::zeros({total}, first_.options().dtype(at::kDouble));
  int64_t begin = 0;
  const auto all = parameters();
  const auto parts = parts_of_gradients();
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].defined()) continue;
    *parts[i] = gradients_.narrow(0, begin, all[i].numel()).view(all[i].sizes());
    begin += all[i].numel();
  }
}

std::vector<at::Tensor> MlpCore::gradients(const std::vector<at::Tensor>& parameters) const {
  const at::Tensor all = gradients_.to(parameters.front().scalar_type());
  std::vector<at::Tensor> result;
  int64_t begin = 0;
  for (const at::Tensor& parameter : parameters) {
    // No views, which an optimizer could not detach once they are a parameter's gradient.
    result.push_back(
        at::empty({0}, all.options()).set_(all.storage(), begin, parameter.sizes(), {}));
    begin += parameter.numel();
  }
  return result;
}

int64_t automatic_rows(int64_t width, const at::Tensor& like) {
  const int64_t bytes = like.is_cpu() ? kProcessorBytes : kDeviceBytes;
  return std::max<int64_t>(64, bytes / (width * static_cast<int64_t>(like.element_size())));
}

}  // namespace isobar
