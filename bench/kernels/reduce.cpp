// SPDX-License-Identifier: Apache-2.0
// Sums over ranks, as shared memory and rings make them: four parts, in their order, rounded once.
#include <ATen/core/Tensor.h>

#include "bench/kernels/kernels.hpp"
#include "comm/backend/reduce_kernels.hpp"

namespace isobar::bench {
namespace {

constexpr int64_t kRanks = 4;

Kernel combine(c10::ScalarType type, Place place) {
  const int64_t count = rows_of(place) * kWidth / 2;
  const auto parts = values({kRanks, count}, type, 1), to = zeros({count}, type);
  const auto call = [=] {
    std::vector<const void*> from;
    for (int64_t p = 0; p < kRanks; ++p) from.push_back(parts.select(0, p).const_data_ptr());
    combine_in_order(to.mutable_data_ptr(), from, count, type, ReduceOp::sum);
  };
  const auto error = [=] {
    const auto from = plain(parts);
    std::vector<double> wanted(count);
    for (size_t i = 0; i < from.size(); ++i) wanted[i % count] += from[i];
    return deviation(to, wanted);
  };
  return {.bytes = static_cast<double>((kRanks + 1) * count * to.element_size()),
          .operations = static_cast<double>((kRanks - 1) * count),
          .call = call,
          .error = error,
          .tolerance = tolerance_of(type)};
}

}  // namespace

void add_reduce(Kernels& kernels) { kernels.add_typed("combine_in_order", combine); }

}  // namespace isobar::bench
