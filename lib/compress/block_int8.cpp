// SPDX-License-Identifier: Apache-2.0
// Called by BucketCollectives, on the threads that compressor.hpp names: stage 0 once a bucket is
// full, stage 1 once the owners have the parts, then complete().
//
// Nothing may be lost: what a rank's message leaves out stays in its residual, and what an owner's
// sum leaves out goes to the owner's, so that results and residuals of all ranks add up to the true
// sums, but for rounding. And replicas stay equal: each decodes the same bytes by the same
// operations.
#include <isobar/compress/block_int8.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "compress/block_int8_kernels.hpp"
#include "compress/parameter_residuals.hpp"

namespace isobar {
namespace {

struct Int8Bucket {
  BucketPiece piece;
  at::Tensor residual;            ///< as the piece's values
  std::vector<at::Tensor> gaps;   ///< what is in no slot of the values
  BlockLayout layout;             ///< this and the rest from the first step on
  at::Tensor message;             ///< sent to the owners, then the sums of all of them
  at::Tensor received, sum, own;  ///< as the owner of a part
};

/// The runs of a piece's values that belong to no parameter.
std::vector<at::Tensor> gaps_of(const BucketPiece& piece) {
  std::vector<at::Tensor> gaps;
  int64_t end = 0;
  const auto add = [&](int64_t from, int64_t to) {
    if (from < to) gaps.push_back(piece.values.narrow(0, from, to - from));
  };
  for (const auto& slot : piece.slots) {
    add(end, slot.offset);
    end = slot.offset + slot.elements;
  }
  add(end, piece.values.numel());
  return gaps;
}

Int8Bucket make_int8_bucket(const BucketPiece& piece) {
  Int8Bucket bucket;
  bucket.piece = piece;
  bucket.residual = at::zeros_like(
      piece.values, piece.values.options().dtype(residual_type(piece.values.scalar_type())));
  bucket.gaps = gaps_of(piece);
  return bucket;
}

void allocate(Int8Bucket& bucket, int ranks, int64_t block) {
  bucket.layout = block_layout(bucket.piece.values.numel(), ranks, block);
  const auto bytes = bucket.residual.options().dtype(at::kByte);
  bucket.message = at::empty({bucket.layout.message_bytes()}, bytes);
  bucket.received = at::empty_like(bucket.message);
  bucket.own = at::empty({bucket.layout.part_bytes()}, bytes);
  bucket.sum = at::empty({bucket.layout.part_values()}, bucket.residual.options());
}

std::vector<ParameterResidual> residuals_of(const std::vector<Int8Bucket>& buckets,
                                            const std::vector<NamedParameter>& parameters) {
  std::vector<ParameterResidual> residuals;
  for (const auto& bucket : buckets) {
    for (const auto& slot : bucket.piece.slots) {
      const auto& parameter = parameters[slot.parameter];
      residuals.push_back({slot.parameter, parameter.name, slot.first,
                           bucket.residual.narrow(0, slot.offset, slot.elements),
                           parameter.tensor.sizes().vec()});
    }
  }
  return residuals;
}

class BlockInt8 final : public Compressor {
 public:
  explicit BlockInt8(const BlockInt8Options& options) : options_(options) {
    ISOBAR_CHECK(options.block > 0, "block_int8: block must be positive, got ", options.block);
    ISOBAR_CHECK(options.start_step >= 0, "block_int8: start_step must be 0 or more, got ",
                 options.start_step);
  }

  std::string description() const override {
    return detail::join("block_int8 block ", options_.block, " start ", options_.start_step);
  }
  int stages() const override { return 2; }
  void set_plan(const std::vector<NamedParameter>& parameters,
                const std::vector<BucketPiece>& pieces, Communicator* share_holders) override;
  bool begin_step() override;
  Work start(int64_t index, int stage, BucketChannel& channel) override;
  void complete(int64_t index) override;
  CompressorState state() const override;
  void load(const CompressorState& state) override;

 private:
  BlockInt8Options options_;
  std::vector<Int8Bucket> buckets_;
  std::vector<ParameterResidual> residuals_;  ///< views of the buckets'
  int64_t steps_ = 0;
  int64_t compressed_steps_ = 0;
};

void BlockInt8::set_plan(const std::vector<NamedParameter>& parameters,
                         const std::vector<BucketPiece>& pieces, Communicator* share_holders) {
  buckets_.clear();
  for (const auto& piece : pieces) buckets_.push_back(make_int8_bucket(piece));
  const auto before = std::exchange(residuals_, residuals_of(buckets_, parameters));
  if (compressed_steps_ > 0) carry_over(before, residuals_, parameters, share_holders);
}

bool BlockInt8::begin_step() {
  if (steps_++ < options_.start_step) return false;
  ++compressed_steps_;
  return true;
}

Work BlockInt8::start(int64_t index, int stage, BucketChannel& channel) {
  auto& bucket = buckets_[index];
  if (bucket.piece.values.numel() == 0) return {};
  if (stage == 0) {
    if (!bucket.message.defined()) allocate(bucket, channel.size(), options_.block);
    quantise(bucket.layout, bucket.piece.values, bucket.residual, bucket.message);
    return channel.all_to_all(bucket.received, bucket.message);
  }
  // The owner's residual takes the error of the sum: the residual of all ranks together is the same
  // whichever holds it, and needs no memory of its own that a new plan would have to move.
  quantise_sum(bucket.layout, channel.rank(), bucket.received, bucket.sum, bucket.residual,
               bucket.own);
  return channel.all_gather(bucket.message, bucket.own);
}

void BlockInt8::complete(int64_t index) {
  auto& bucket = buckets_[index];
  if (bucket.piece.values.numel() == 0) return;
  dequantise(bucket.layout, bucket.message, bucket.piece.divisor, bucket.piece.values);
  for (auto& gap : bucket.gaps) gap.zero_();  // NaN where its block is
}

CompressorState BlockInt8::state() const {
  CompressorState state;
  state.counts = {{"steps", steps_}, {"compressed_steps", compressed_steps_}};
  save(residuals_, state);
  return state;
}

void BlockInt8::load(const CompressorState& state) {
  const int64_t steps = count_of(state, "steps");
  const int64_t compressed_steps = count_of(state, "compressed_steps");
  check_fits(residuals_, state);
  steps_ = steps;
  compressed_steps_ = compressed_steps;
  load_residuals(residuals_, state);
}

}  // namespace

std::shared_ptr<Compressor> make_block_int8(const BlockInt8Options& options) {
  return std::make_shared<BlockInt8>(options);
}

}  // namespace isobar
