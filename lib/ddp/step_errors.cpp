// SPDX-License-Identifier: Apache-2.0
#include "ddp/step_errors.hpp"

#include <isobar/core/error.hpp>

#include <utility>

namespace isobar {

void StepErrors::add_misfit(const NamedParameter& parameter, bool is_attached) {
  if (!misfit_.empty()) return;
  const auto& tensor = parameter.tensor;
  misfit_ = detail::join("Reducer: rank ", rank_, ": parameter '", parameter.name, "' was ");
  misfit_ +=
      is_attached
          ? detail::join("given the shape ", tensor.sizes(), " with strides ", tensor.strides(),
                         " after it was wrapped, and had another; wrap the module again")
          : "moved, retyped or loaded after it was wrapped and has lost its hook; wrap the "
            "module after module.to(...) and torch::load(), or copy values into the "
            "parameters that it has";
}

void StepErrors::add_interference(const NamedParameter& parameter, Interference done) {
  if (done == Interference::none || !interference_.empty()) return;
  interference_ = detail::join(
      "Reducer: rank ", rank_, ": .grad of parameter '", parameter.name,
      done == Interference::written ? "' was written to" : "' was replaced",
      " between backward() and finish(), when it belongs to the reducer; clip, scale or zero "
      "gradients after finish(), run the backward pass inside accumulate(), or read it with "
      "const_data_ptr (data_ptr and accessor<T> ask to write)");
}

void StepErrors::add_left_over(const NamedParameter& parameter) {
  if (!interference_.empty()) return;
  interference_ = detail::join(
      "Reducer: rank ", rank_, ": .grad of parameter '", parameter.name,
      "' was under way in an earlier wrapper, which was replaced or destroyed between backward() "
      "and finish(); call finish() before wrapping again, or zero_grad() after it to throw that "
      "backward pass away");
}

void StepErrors::clear() {
  misfit_.clear();
  interference_.clear();
}

void StepErrors::throw_interference() {
  if (interference_.empty()) return;
  throw UsageError(std::exchange(interference_, {}));
}

void StepErrors::throw_first() {
  if (empty()) return;
  const auto first = misfit_.empty() ? interference_ : misfit_;
  clear();
  throw UsageError(first);
}

}  // namespace isobar
