// SPDX-License-Identifier: Apache-2.0
// Plain loops over memory instead of LibTorch's operations: these run on a progress thread and on
// ranks that share cores, where an intra-op thread pool of their own would take cores from the
// ranks that compute, and they leave autograd's version counters alone as a transport that writes
// memory does.
#include "comm/element_type.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ops/empty.h>

#include <algorithm>

namespace isobar {
namespace {

/// Calls visit(T{}, A{}) with the element type and its accumulation type.
template <typename Visit>
void visit_type(at::ScalarType type, const Visit& visit) {
  switch (type) {
    case at::kByte:
      return visit(uint8_t{}, uint8_t{});
    case at::kChar:
      return visit(int8_t{}, int8_t{});
    case at::kShort:
      return visit(int16_t{}, int16_t{});
    case at::kInt:
      return visit(int32_t{}, int32_t{});
    case at::kLong:
      return visit(int64_t{}, int64_t{});
    case at::kHalf:
      return visit(at::Half{}, float{});
    case at::kBFloat16:
      return visit(at::BFloat16{}, float{});
    case at::kFloat:
      return visit(float{}, float{});
    case at::kDouble:
      return visit(double{}, double{});
    default:
      throw UsageError("reduction of " + type_name(type) + ": this type cannot be reduced");
  }
}

template <typename T>
T combine_two(T a, T b, ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return static_cast<T>(a + b);
    case ReduceOp::minimum:
      return b < a ? b : a;
    case ReduceOp::maximum:
      return a < b ? b : a;
  }
  return a;
}

template <typename A, typename T>
void combine_all(A* into, const T* from, int64_t count, ReduceOp op) {
  for (int64_t i = 0; i < count; ++i) {
    into[i] = combine_two(into[i], static_cast<A>(from[i]), op);
  }
}

}  // namespace

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
    std::copy_n(from, tensor.numel(), static_cast<decltype(accumulator)*>(wide.data_ptr()));
  });
  return wide;
}

void combine(const at::Tensor& into, const at::Tensor& from, ReduceOp op) {
  visit_type(from.scalar_type(), [&](auto element, auto accumulator) {
    combine_all(static_cast<decltype(accumulator)*>(into.data_ptr()),
                static_cast<const decltype(element)*>(from.const_data_ptr()), from.numel(), op);
  });
}

void narrow_into(const at::Tensor& to, const at::Tensor& from, int64_t first) {
  visit_type(to.scalar_type(), [&](auto element, auto accumulator) {
    const auto* wide = static_cast<const decltype(accumulator)*>(from.const_data_ptr()) + first;
    std::copy_n(wide, to.numel(), static_cast<decltype(element)*>(to.data_ptr()));
  });
}

}  // namespace isobar
