// SPDX-License-Identifier: Apache-2.0
// Plain loops over memory instead of LibTorch's operations: these run on a progress thread and on
// ranks that share cores, where an intra-op thread pool of their own would take cores from the
// ranks that compute, and they leave autograd's version counters alone as a transport that writes
// memory does.
#include "comm/backend/reduce_kernels.hpp"

#include <isobar/comm/half_float.hpp>

#include <algorithm>
#include <type_traits>

#include "comm/backend/element_type.hpp"

namespace isobar {
namespace {

/// Elements whose sums stay in the first-level cache while the parts pass by.
constexpr int64_t kBlock = 1024;

template <ReduceOp op, typename A>
A combine_two(A a, A b) {
  if constexpr (op == ReduceOp::sum) return static_cast<A>(a + b);
  if constexpr (op == ReduceOp::minimum) return b < a ? b : a;
  if constexpr (op == ReduceOp::maximum) return a < b ? b : a;
}

/// What is stored of a sum: where that rounds, it is the end, and the sum is divided before.
template <ReduceOp op, typename To, typename A>
To stored(A sum, A divisor) {
  if constexpr (op == ReduceOp::sum && !std::is_same_v<To, A>) sum = sum / divisor;
  return narrowed_value<To>(sum);
}

/// to[i] = first[i] op rest[0][i] op ..., for the number of parts that keep their sums in
/// registers. An element depends on those of its own index alone: `to` may be `first` or in `rest`.
template <ReduceOp op, typename A, size_t N, typename To, typename First, typename T>
void pass(To* to, const First* first, const T* const* rest, int64_t count, A divisor) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    auto sum = widened_value<A>(first[i]);
    if constexpr (N > 0) sum = combine_two<op>(sum, widened_value<A>(rest[0][i]));
    if constexpr (N > 1) sum = combine_two<op>(sum, widened_value<A>(rest[1][i]));
    if constexpr (N > 2) sum = combine_two<op>(sum, widened_value<A>(rest[2][i]));
    to[i] = stored<op, To>(sum, divisor);
  }
}

constexpr size_t kPerPass = 3;

template <ReduceOp op, typename A, typename To, typename First, typename T>
void pass_of(size_t parts, To* to, const First* first, const T* const* rest, int64_t count,
             A divisor) {
  if (parts == 0) return pass<op, A, 0>(to, first, rest, count, divisor);
  if (parts == 1) return pass<op, A, 1>(to, first, rest, count, divisor);
  if (parts == 2) return pass<op, A, 2>(to, first, rest, count, divisor);
  pass<op, A, kPerPass>(to, first, rest, count, divisor);
}

template <ReduceOp op, typename T, typename A>
void combine_block(T* to, const std::vector<const void*>& parts, int64_t first, int64_t count,
                   A divisor) {
  const T* rest[kPerPass] = {};
  size_t next = 0;
  const auto part = [&] { return static_cast<const T*>(parts[next++]) + first; };
  const auto take = [&](size_t wanted) {
    for (size_t i = 0; i < wanted; ++i) rest[i] = part();
    return wanted;
  };
  const T* start = part();
  if (parts.size() <= 1 + kPerPass) {
    return pass_of<op, A>(take(parts.size() - 1), to + first, start, rest, count, divisor);
  }
  A sums[kBlock];
  pass_of<op, A>(take(kPerPass), sums, start, rest, count, divisor);
  while (parts.size() - next > kPerPass) {
    pass_of<op, A>(take(kPerPass), sums, sums, rest, count, divisor);
  }
  pass_of<op, A>(take(parts.size() - next), to + first, sums, rest, count, divisor);
}

template <ReduceOp op, typename T, typename A>
void combine_blocks(T* to, const std::vector<const void*>& parts, int64_t count, A divisor) {
  for (int64_t first = 0; first < count; first += kBlock) {
    combine_block<op, T, A>(to, parts, first, std::min(kBlock, count - first), divisor);
  }
}

}  // namespace

void combine_in_order(void* to, const std::vector<const void*>& parts, int64_t count,
                      at::ScalarType type, ReduceOp op, double divisor) {
  visit_type(type, [&](auto element, auto accumulator) {
    using T = decltype(element);
    using A = decltype(accumulator);
    auto* target = static_cast<T*>(to);
    const auto by = static_cast<A>(divisor);
    switch (op) {
      case ReduceOp::sum:
        return combine_blocks<ReduceOp::sum, T, A>(target, parts, count, by);
      case ReduceOp::minimum:
        return combine_blocks<ReduceOp::minimum, T, A>(target, parts, count, by);
      case ReduceOp::maximum:
        return combine_blocks<ReduceOp::maximum, T, A>(target, parts, count, by);
    }
  });
}

}  // namespace isobar
