// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/compress/low_rank.hpp>
#include <isobar/ddp/compressor.hpp>

#include <memory>

namespace isobar {

/// ACP-SGD (Zhang et al. 2023, arXiv 2306.08881): low-rank factors, of which each step
/// computes and sums one, in turn. With M the gradient of rank i, E its residual and N ranks,
///
///     a step:    Q = orth(Q),  P_i = (M + E) Q,   E = M + E - P_i Qᵀ,  P = Σ P_i
///     the next:  P = orth(P),  Q_i = (M + E)ᵀ P,  E = M + E - P Q_iᵀ,  Q = Σ Q_i
///
/// and either way P Qᵀ / N in the gradient's place. One allreduce a bucket, which starts
/// during the backward pass; it depends on nothing else in the step.
///
/// The residual is what this rank's own factor left out. A gradient that is not finite
/// makes the reduced one NaN on every rank and leaves the residual finite. Computed in the
/// gradient's type, 16-bit floats in float32. Takes another copy of the gradients in
/// memory. Throws UsageError for a rank or a rate that is not positive, or a negative step.
std::shared_ptr<Compressor> make_acp_sgd(const LowRankOptions& options = {});

}  // namespace isobar
