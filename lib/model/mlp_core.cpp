// SPDX-License-Identifier: Apache-2.0
#include "model/mlp_core.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace isobar::detail {
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
  return {detail::first_rows(first, count), detail::first_rows(second, count),
          detail::first_rows(at_first, count), detail::first_rows(at_second, count),
          detail::first_rows(at_third, count)};
}

MlpAgain MlpAgain::first_rows(int64_t count) const {
  return {detail::first_rows(first, count), detail::first_rows(second, count),
          detail::first_rows(first_slope, count), detail::first_rows(second_slope, count),
          detail::first_rows(third, count)};
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

MlpAgain MlpCore::make_again(int64_t rows, const at::TensorOptions& options) const {
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

void MlpCore::start_again(const std::vector<at::Tensor>& parts, MlpAgain& again) const {
  linear_gelu(first_operands(parts), first_bias_, again.first_slope, again.first,
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

void MlpCore::finish_again(MlpAgain& again, at::Tensor& out) const {
  linear_gelu({{again.first, made(second_forward_, second_.t())}}, second_bias_, again.second_slope,
              again.second, GeluLeaves::slope);
  if (!has_norm()) return;
  const Operand operand{again.second, made(third_forward_, third_.t())};
  if (out.defined()) {
    linear_norm(operand, third_bias_, norm_, {}, again.third, out);
  } else {
    linear(operand, third_bias_, again.third);
  }
}

void MlpCore::backward(const MlpTape& tape, const at::Tensor& gradient, MlpScratch& scratch,
                       const std::vector<FirstInput>& inputs) {
  const at::Tensor at_third = backward_norm(tape.third, gradient, scratch);
  linear_backward_gelu({at_third, made(third_backward_, third_)}, tape.second, scratch.second,
                       scratch.at_second, second_sums_);
  linear_backward_gelu({scratch.at_second, made(second_backward_, second_)}, tape.first,
                       scratch.first, scratch.at_first, first_sums_);
  add_gradients(at_third, scratch.second, scratch.first, scratch, inputs);
}

void MlpCore::backward(const MlpAgain& again, const at::Tensor& gradient, MlpScratch& scratch,
                       const std::vector<FirstInput>& inputs) {
  const at::Tensor at_third = backward_norm(again.third, gradient, scratch);
  linear_backward({at_third, made(third_backward_, third_)}, again.second_slope, scratch.at_second,
                  second_sums_);
  linear_backward({scratch.at_second, made(second_backward_, second_)}, again.first_slope,
                  scratch.at_first, first_sums_);
  add_gradients(at_third, again.second, again.first, scratch, inputs);
}

at::Tensor MlpCore::backward_norm(const at::Tensor& third, const at::Tensor& gradient,
                                  MlpScratch& scratch) {
  if (!has_norm()) {
    third_sums_.add_(gradient.sum({0}, false, third_sums_.scalar_type()));
    return gradient;
  }
  NormSums sums{norm_weight_sums_, norm_bias_sums_, third_sums_};
  layer_norm_backward(third, norm_.weight, gradient, scratch.at_third, sums);
  return scratch.at_third;
}

/// In one go, so that threads share all of them.
void MlpCore::add_gradients(const at::Tensor& at_third, const at::Tensor& second,
                            const at::Tensor& first, const MlpScratch& scratch,
                            const std::vector<FirstInput>& inputs) {
  std::vector<OuterProducts> all{{third_gradient_, at_third, second},
                                 {second_gradient_, scratch.at_second, first}};
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
  const int64_t bytes = on_processor(like) ? kProcessorBytes : kDeviceBytes;
  return std::max<int64_t>(64, bytes / (width * static_cast<int64_t>(like.element_size())));
}

}  // namespace isobar::detail
