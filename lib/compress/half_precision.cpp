// SPDX-License-Identifier: Apache-2.0
#include <isobar/compress/half_precision.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <string>
#include <string_view>
#include <vector>

namespace isobar {
namespace {

std::string_view to_string(HalfType type) {
  return type == HalfType::float16 ? "float16" : "bfloat16";
}

/// One bucket's values and what they travel in.
struct HalfBucket {
  at::Tensor values;
  at::Tensor sent;     ///< 16-bit; the values themselves where they are
  double divisor = 1;  ///< of the sum, before it is rounded
  int64_t payload_bytes = 0;

  bool is_converted() const { return !sent.is_same(values); }
};

HalfBucket make_half_bucket(const BucketPiece& piece, HalfType type) {
  HalfBucket bucket;
  bucket.values = bucket.sent = piece.values;
  bucket.divisor = piece.divisor;
  if (!has_rounded_sums(piece.values.scalar_type())) {
    const auto sent = type == HalfType::float16 ? at::kHalf : at::kBFloat16;
    bucket.sent = at::empty_like(piece.values, sent);
  }
  for (const auto& slot : piece.slots) bucket.payload_bytes += 2 * slot.elements;
  return bucket;
}

class HalfPrecision final : public Compressor {
 public:
  explicit HalfPrecision(const HalfPrecisionOptions& options) : options_(options) {
    ISOBAR_CHECK(options.start_step >= 0, "half_precision: start_step must be 0 or more, got ",
                 options.start_step);
  }

  std::string description() const override {
    return detail::join("half_precision ", to_string(options_.type), " start ",
                        options_.start_step);
  }
  int stages() const override { return 1; }
  void set_plan(const std::vector<NamedParameter>& parameters,
                const std::vector<BucketPiece>& pieces, Communicator* share_holders) override;
  bool begin_step() override { return steps_++ >= options_.start_step; }
  Work start(int64_t index, int stage, BucketChannel& channel) override;
  void complete(int64_t index) override;
  CompressorState state() const override { return {{}, {{"steps", steps_}}}; }
  void load(const CompressorState& state) override;

 private:
  HalfPrecisionOptions options_;
  std::vector<HalfBucket> buckets_;
  int64_t steps_ = 0;
};

void HalfPrecision::set_plan(const std::vector<NamedParameter>&,
                             const std::vector<BucketPiece>& pieces, Communicator*) {
  buckets_.clear();
  for (const auto& piece : pieces) buckets_.push_back(make_half_bucket(piece, options_.type));
}

Work HalfPrecision::start(int64_t index, int, BucketChannel& channel) {
  auto& bucket = buckets_[index];
  if (bucket.is_converted()) bucket.sent.copy_(bucket.values);
  return channel.allreduce(bucket.sent, bucket.payload_bytes, bucket.divisor);
}

void HalfPrecision::complete(int64_t index) {
  auto& bucket = buckets_[index];
  if (bucket.is_converted()) bucket.values.copy_(bucket.sent);
}

void HalfPrecision::load(const CompressorState& state) {
  const auto steps = state.counts.find("steps");
  if (steps == state.counts.end()) throw DataError("compressor state has no 'steps'");
  steps_ = steps->second;
}

}  // namespace

std::shared_ptr<Compressor> make_half_precision(const HalfPrecisionOptions& options) {
  return std::make_shared<HalfPrecision>(options);
}

}  // namespace isobar
