// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/model/mlp.hpp>
#include <ATen/core/Tensor.h>

#include <vector>

namespace isobar {

/// The Mlp of the rows of `parts`, side by side, differentiable once.
///
/// Each part is [B, N, k] or [1, N, k], and the result [B, N, out]; `parameters` are an Mlp's. The
/// gradient passes what Activations says; the first part is added where options want a residual.
at::Tensor mlp_rows(const std::vector<at::Tensor>& parts, const std::vector<at::Tensor>& parameters,
                    const RowOptions& options);

}  // namespace isobar
