// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/compress/low_rank.hpp>
#include <isobar/ddp/compressor.hpp>

#include <map>
#include <string>
#include <vector>

#include "compress/low_rank_kernels.hpp"
#include "compress/parameter_residuals.hpp"

namespace isobar {

/// Which of a matrix's two factors.
enum class Side { left, right };

/// A compressed matrix, as it lies in its piece.
struct FactoredMatrix {
  int64_t parameter = 0;
  size_t slot = 0;  ///< of the piece
  std::string name;
  int64_t first = 0;   ///< of its values, in the gradient's order of memory
  int64_t offset = 0;  ///< in the piece
  LowRankMatrix passes;
  at::Tensor left, right;            ///< orthonormal; [rows, rank] and [rank, columns]
  at::Tensor sent_left, sent_right;  ///< the same shapes, in the payloads: summed over ranks
  at::Tensor own_right;              ///< this rank's part of sent_right

  at::Tensor& basis(Side side) { return side == Side::left ? left : right; }
  at::Tensor& sent(Side side) { return side == Side::left ? sent_left : sent_right; }

  /// From now on the residual is what is stored less left · own_right, or just what is stored.
  void set_pending(bool pending);
};

/// Values that travel as they are.
struct DenseRun {
  size_t slot = 0;     ///< of the piece
  int64_t offset = 0;  ///< in the piece
  int64_t elements = 0;
  /// A residual from when these values were in a matrix, to be sent with the next ones;
  /// undefined where there is none.
  at::Tensor residual;
  /// It once sent, until the bucket is complete: another stream than its memory's may read it.
  at::Tensor sent_residual;

  /// The residual, which is sent with this.
  const at::Tensor& take_residual();
};

/// The parameter of a slot, which a later plan may not have any more.
struct SlotOwner {
  std::string name;
  std::vector<int64_t> sizes;
};

/// Buffers for one bucket. A payload holds factors, then the dense runs, and has room for a
/// fingerprint behind what is sent of it.
struct LowRankBucket {
  BucketPiece piece;
  std::vector<SlotOwner> owners;  ///< by slot
  std::vector<FactoredMatrix> matrices;
  std::vector<DenseRun> dense;
  at::Tensor left_payload, right_payload;
  int64_t left_values = 0, right_values = 0;  ///< of factors
  int64_t dense_values = 0;
  /// By shape: what takes the place of columns of zeros.
  std::map<std::vector<int64_t>, at::Tensor> spares;

  at::Tensor& payload(Side side) { return side == Side::left ? left_payload : right_payload; }
  int64_t factor_values(Side side) const { return side == Side::left ? left_values : right_values; }
};

/// The matrices and dense runs of a piece, with residuals of zero and no factors yet.
LowRankBucket make_low_rank_bucket(const BucketPiece& piece,
                                   const std::vector<NamedParameter>& parameters,
                                   const LowRankOptions& options);

/// What has not been applied yet of each slot's values, in new memory.
std::vector<ParameterResidual> pending_residuals(const LowRankBucket& bucket);

/// Makes that the residuals of a bucket that has none.
void set_residuals(LowRankBucket& bucket, const std::vector<ParameterResidual>& residuals);

/// What the matrix's residual stands for, in new memory.
at::Tensor settled_residual(const FactoredMatrix& matrix);

/// Where a pass reads and writes the matrix's gradient: the channel's source, and the piece.
void read_source(LowRankBucket& bucket, FactoredMatrix& matrix, const BucketChannel& channel);
void write_piece(LowRankBucket& bucket, FactoredMatrix& matrix);

/// Puts the dense runs into the payload, and takes their sums out again.
void pack_dense(LowRankBucket& bucket, Side side, const BucketChannel& channel);
void unpack_dense(LowRankBucket& bucket, Side side);

/// For a bucket without matrices: sums its values where they lie.
Work start_dense(LowRankBucket& bucket, BucketChannel& channel);
void complete_dense(LowRankBucket& bucket);

/// Random numbers of the normal distribution that depend on these alone.
at::Tensor random_factor(at::IntArrayRef shape, uint64_t seed, const std::string& name,
                         int64_t restart, const at::TensorOptions& options);

/// Sets each matrix's `left` or `right` to an orthonormal basis of what was sent last, by a
/// reduced QR decomposition, of equal shapes at once. What is not finite counts as zero;
/// columns that are zero are replaced by random ones, dependent ones by some that are not.
void orthonormalize(LowRankBucket& bucket, Side side);

/// Numbers of a hash of the orthonormal factors, to be summed over `ranks` ranks: in a
/// float32 the sums are exact, and agree() is true if and only if all ranks' were equal.
constexpr int64_t kFingerprint = 8;
at::Tensor fingerprint(const LowRankBucket& bucket, Side side, int ranks);
bool agree(const at::Tensor& summed_fingerprint, int ranks);

}  // namespace isobar
