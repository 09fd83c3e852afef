// SPDX-License-Identifier: Apache-2.0
// Plain loops over memory instead of LibTorch's operations: these run on a progress thread and on
// ranks that share cores, where an intra-op thread pool of their own would take cores from the
// ranks that compute, and they leave autograd's version counters alone as a transport that writes
// memory does.
#include "comm/element_type.hpp"

#include "comm/half_float.hpp"
#include <ATen/ops/empty.h>

#include <algorithm>

namespace isobar {

std::string type_name(at::ScalarType type) { return c10::getDtypeNames(type).first; }

bool can_reduce(at::ScalarType type) noexcept {
  constexpr at::ScalarType kTypes[] = {at::kByte, at::kChar,     at::kShort, at::kInt,   at::kLong,
                                       at::kHalf, at::kBFloat16, at::kFloat, at::kDouble};
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

bool can_move(at::ScalarType type) noexcept { return type == at::kBool || can_reduce(type); }

at::ScalarType accumulation_type(at::ScalarType type) noexcept {
  return type == at::kHalf || type == at::kBFloat16 ? at::kFloat : type;
}

at::Tensor widened(const at::Tensor& tensor) {
  auto wide = at::empty({tensor.numel()}, accumulation_type(tensor.scalar_type()));
  visit_type(tensor.scalar_type(), [&](auto element, auto accumulator) {
    const auto* from = static_cast<const decltype(element)*>(tensor.const_data_ptr());
    auto* to = static_cast<decltype(accumulator)*>(wide.data_ptr());
    std::transform(from, from + tensor.numel(), to,
                   [](auto value) { return widened_value<decltype(accumulator)>(value); });
  });
  return wide;
}

void combine(const at::Tensor& into, const at::Tensor& from, ReduceOp op) {
  visit_type(from.scalar_type(), [&](auto element, auto accumulator) {
    using A = decltype(accumulator);
    auto* sums = static_cast<A*>(into.data_ptr());
    const auto* values = static_cast<const decltype(element)*>(from.const_data_ptr());
    visit_op(op, [&](auto combined) {
      for (int64_t i = 0; i < from.numel(); ++i) {
        sums[i] = combined(sums[i], widened_value<A>(values[i]));
      }
    });
  });
}

void narrow_into(const at::Tensor& to, const at::Tensor& from, int64_t first) {
  visit_type(to.scalar_type(), [&](auto element, auto accumulator) {
    const auto* wide = static_cast<const decltype(accumulator)*>(from.const_data_ptr()) + first;
    std::transform(wide, wide + to.numel(), static_cast<decltype(element)*>(to.data_ptr()),
                   [](auto value) { return narrowed_value<decltype(element)>(value); });
  });
}

}  // namespace isobar
