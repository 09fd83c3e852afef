// SPDX-License-Identifier: Apache-2.0
#include <isobar/compress/power_sgd.hpp>

#include <ATen/ATen.h>

#include "compress/low_rank_compressor.hpp"

namespace isobar {
namespace {

class PowerSgd final : public LowRankCompressor {
 public:
  explicit PowerSgd(const LowRankOptions& options) : LowRankCompressor("power_sgd", options) {}

  int stages() const override { return 2; }
  Work start(int64_t index, int stage, BucketChannel& channel) override;
  void complete(int64_t index) override;

 protected:
  Side first_basis(int64_t) const override { return Side::right; }

 private:
  Work start_left(LowRankBucket& bucket, BucketChannel& channel);
  Work start_right(LowRankBucket& bucket, BucketChannel& channel);
};

/// The last right factor with rows of a size near 1: the projection would else have the square
/// of the gradient's, which soon is too small or too large for a float.
at::Tensor scaled(const at::Tensor& right) {
  const auto finite = at::nan_to_num(right, 0, 0, 0);
  const auto sizes = finite.abs().amax(1, /*keepdim=*/true);
  return finite.div(sizes.masked_fill(sizes == 0, 1));
}

Work PowerSgd::start(int64_t index, int stage, BucketChannel& channel) {
  auto& bucket = this->bucket(index);
  if (bucket.matrices.empty()) return stage == 0 ? start_dense(bucket, channel) : Work();
  return stage == 0 ? start_left(bucket, channel) : start_right(bucket, channel);
}

// The right factor need not be orthonormal: the left one then is, and spans the same.
Work PowerSgd::start_left(LowRankBucket& bucket, BucketChannel& channel) {
  for (auto& matrix : bucket.matrices) {
    read_source(bucket, matrix, channel);
    matrix.right.copy_(scaled(matrix.sent_right));
    const auto number = project_rows(matrix.passes, matrix.sent_left, matrix.right, Keep::all);
    matrix.set_pending(false);
    if (number.defined()) matrix.sent_left.add_(number);
  }
  pack_dense(bucket, Side::left, channel);
  const int64_t values = bucket.left_values + bucket.dense_values;
  auto payload = bucket.left_payload.narrow(0, 0, values);
  return channel.allreduce(payload);
}

Work PowerSgd::start_right(LowRankBucket& bucket, BucketChannel& channel) {
  orthonormalize(bucket, Side::left);
  for (auto& matrix : bucket.matrices) {
    const auto number = project_residual(matrix.passes, matrix.left, matrix.own_right);
    matrix.set_pending(true);
    // The basis is finite whatever was sent; that it was not has to show in the result.
    at::add_out(matrix.sent_right, matrix.own_right, matrix.sent_left.sum().mul_(0));
    if (number.defined()) matrix.sent_right.add_(number);
  }
  return send(bucket, Side::right, bucket.right_values, Side::left, channel);
}

void PowerSgd::complete(int64_t index) {
  auto& bucket = this->bucket(index);
  if (bucket.matrices.empty()) return complete_dense(bucket);
  check_factors(bucket, Side::right, bucket.right_values);
  bucket.right_payload.narrow(0, 0, bucket.right_values).div_(bucket.piece.divisor);
  for (auto& matrix : bucket.matrices) {
    write_piece(bucket, matrix);
    expand(matrix.passes, matrix.left, matrix.sent_right);
  }
  bucket.left_payload.narrow(0, bucket.left_values, bucket.dense_values).div_(bucket.piece.divisor);
  unpack_dense(bucket, Side::left);
}

}  // namespace

std::shared_ptr<Compressor> make_power_sgd(const LowRankOptions& options) {
  return std::make_shared<PowerSgd>(options);
}

}  // namespace isobar
