// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace isobar {

/// One matrix in the passes over memory that low-rank compression consists of.
///
/// Rows and columns are those of the gradient M [rows, columns]. Of two factors, `left` is
/// [rows, rank] and `right` [rank, columns]: a matrix is approximated by left · right. All are
/// contiguous and of the residual's type (float or double).
struct LowRankMatrix {
  int64_t rows = 0, columns = 0, rank = 0;
  at::Tensor gradient;  ///< [rows, columns], of any floating type
  /// [rows, columns]. What it stands for is residual - pending_left · pending_right: a step
  /// whose right factor is complete only after its last row leaves the subtraction to the
  /// next pass over the residual.
  at::Tensor residual;
  at::Tensor pending_left, pending_right;  ///< undefined where nothing is pending
};

/// What becomes of W = gradient + residual in a pass.
enum class Keep {
  all,        ///< residual = W
  projection  ///< residual = W - left · right
};

// A gradient that is not finite must reach every rank, but not the residual, where it would stay.
// So it counts as zero here (on the CPU with its row), and the passes return a number to add to
// what is sent: undefined or 0 where all were finite, else NaN. Where finite gradients overflow
// in a right factor, it and the residual become zero (on the CPU).

/// left = W · rightᵀ and the residual as `keep` says, nothing pending. Reads gradient and
/// residual once and writes the residual once.
at::Tensor project_rows(const LowRankMatrix& matrix, const at::Tensor& left,
                        const at::Tensor& right, Keep keep);

/// right = leftᵀ · W and residual = W; the caller makes (left, right) pending. The same traffic.
at::Tensor project_columns(const LowRankMatrix& matrix, const at::Tensor& left,
                           const at::Tensor& right);

/// right = leftᵀ · residual, with nothing pending: W is there already.
at::Tensor project_residual(const LowRankMatrix& matrix, const at::Tensor& left,
                            const at::Tensor& right);

/// gradient = left · right.
void expand(const LowRankMatrix& matrix, const at::Tensor& left, const at::Tensor& right);

/// residual -= pending_left · pending_right, to the bits that the next pass would see.
void settle(const LowRankMatrix& matrix);

/// The same by tensor operations, for any device; other sums of the same terms.
namespace by_tensors {
at::Tensor project_rows(const LowRankMatrix& matrix, const at::Tensor& left,
                        const at::Tensor& right, Keep keep);
at::Tensor project_columns(const LowRankMatrix& matrix, const at::Tensor& left,
                           const at::Tensor& right);
at::Tensor project_residual(const LowRankMatrix& matrix, const at::Tensor& left,
                            const at::Tensor& right);
void expand(const LowRankMatrix& matrix, const at::Tensor& left, const at::Tensor& right);
void settle(const LowRankMatrix& matrix);
}  // namespace by_tensors

}  // namespace isobar
