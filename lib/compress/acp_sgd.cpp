// SPDX-License-Identifier: Apache-2.0
#include <isobar/compress/acp_sgd.hpp>

#include <ATen/ATen.h>

#include "compress/low_rank_compressor.hpp"

namespace isobar {
namespace {

class AcpSgd final : public LowRankCompressor {
 public:
  explicit AcpSgd(const LowRankOptions& options) : LowRankCompressor("acp_sgd", options) {}

  int stages() const override { return 1; }
  Work start(int64_t index, int stage, BucketChannel& channel) override;
  void complete(int64_t index) override;

 protected:
  Side first_basis(int64_t index) const override {
    return index % 2 == 0 ? Side::right : Side::left;
  }

 private:
  Side basis() const { return first_basis(compressed_step()); }
  Side computed() const { return basis() == Side::right ? Side::left : Side::right; }
};

Work AcpSgd::start(int64_t index, int, BucketChannel& channel) {
  auto& bucket = this->bucket(index);
  if (bucket.matrices.empty()) return start_dense(bucket, channel);
  orthonormalize(bucket, basis());
  for (auto& matrix : bucket.matrices) {
    at::Tensor number;
    read_source(bucket, matrix, channel);
    if (computed() == Side::left) {
      number = project_rows(matrix.passes, matrix.sent_left, matrix.right, Keep::projection);
      matrix.set_pending(false);
    } else {
      number = project_columns(matrix.passes, matrix.left, matrix.own_right);
      matrix.set_pending(true);
      matrix.sent_right.copy_(matrix.own_right);
    }
    if (number.defined()) matrix.sent(computed()).add_(number);
  }
  pack_dense(bucket, computed(), channel);
  return send(bucket, computed(), bucket.factor_values(computed()) + bucket.dense_values, basis(),
              channel);
}

void AcpSgd::complete(int64_t index) {
  auto& bucket = this->bucket(index);
  if (bucket.matrices.empty()) return complete_dense(bucket);
  const int64_t values = bucket.factor_values(computed()) + bucket.dense_values;
  check_factors(bucket, computed(), values);
  bucket.payload(computed()).narrow(0, 0, values).div_(bucket.piece.divisor);
  for (auto& matrix : bucket.matrices) {
    const bool is_left = computed() == Side::left;
    write_piece(bucket, matrix);
    expand(matrix.passes, is_left ? matrix.sent_left : matrix.left,
           is_left ? matrix.right : matrix.sent_right);
  }
  unpack_dense(bucket, computed());
}

}  // namespace

std::shared_ptr<Compressor> make_acp_sgd(const LowRankOptions& options) {
  return std::make_shared<AcpSgd>(options);
}

}  // namespace isobar
