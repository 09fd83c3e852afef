// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/reduction.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace isobar {

/// to[i] = parts[0][i] op parts[1][i] op ..., in this order, in the accumulation
/// type (element_type.hpp), rounded once: the one arithmetic of every reduction that
/// promises its bits. A sum of a type that is rounded is divided by `divisor` before; of
/// others the divisor is 1. `to` may be one of the parts; they do not overlap otherwise.
/// Reads every part once.
void combine_in_order(void* to, const std::vector<const void*>& parts, int64_t count,
                      at::ScalarType type, ReduceOp op, double divisor = 1);

}  // namespace isobar
