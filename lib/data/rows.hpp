// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <string>

namespace isobar {

/// Throws UsageError unless these are positions of some of `points` points, [n] int64.
inline void check_rows(const std::string& operation, const at::Tensor& rows, int64_t points) {
  ISOBAR_CHECK(
      rows.defined() && rows.is_cpu() && rows.dim() == 1 && rows.scalar_type() == at::kLong,
      operation, ": rows have to be a tensor [n] of int64 on the CPU");
  if (rows.numel() == 0) return;
  const auto first = rows.min().item<int64_t>(), last = rows.max().item<int64_t>();
  ISOBAR_CHECK(first >= 0 && last < points, operation, ": rows from ", first, " to ", last, ", of ",
               points, " points");
}

}  // namespace isobar
