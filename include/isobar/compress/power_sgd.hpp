// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/compress/low_rank.hpp>
#include <isobar/ddp/compressor.hpp>

#include <memory>

namespace isobar {

/// PowerSGD (Vogels et al. 2019, arXiv 1905.13727): both low-rank factors in each step, by
/// one power iteration that begins where the step before ended. With M the gradient of rank
/// i, E its residual and N ranks,
///
///     P = orth(Σ (M + E) Q),  Q_i = (M + E)ᵀ P,  E = M + E - P Q_iᵀ,  Q = Σ Q_i
///
/// and P Qᵀ / N in the gradient's place. Two allreduces a bucket, the second of which needs
/// the first; other buckets' go on meanwhile.
///
/// The residual is what this rank's own factor left out, as in the authors' code. (PyTorch's
/// hook subtracts the average of all ranks instead: the updates are the same, but its
/// residuals grow with the square root of the steps.) Otherwise as make_acp_sgd().
std::shared_ptr<Compressor> make_power_sgd(const LowRankOptions& options = {});

}  // namespace isobar
