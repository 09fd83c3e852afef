// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "compress/low_rank_buckets.hpp"

namespace isobar {

/// What ACP-SGD and PowerSGD share: the schedule, the memory, the comparison of factors.
class LowRankCompressor : public Compressor {
 public:
  LowRankCompressor(std::string method, const LowRankOptions& options);

  std::string description() const override;
  void set_plan(const std::vector<NamedParameter>& parameters,
                const std::vector<BucketPiece>& pieces, Communicator* share_holders) override;
  bool reads_in_place() const override { return true; }
  bool begin_step() override;
  CompressorState state() const override;
  void load(const CompressorState& state) override;

 protected:
  /// The factor that compressed step `index` begins with, from the step before.
  virtual Side first_basis(int64_t index) const = 0;

  LowRankBucket& bucket(int64_t index) { return buckets_[index]; }

  /// Of the step under way, from 0.
  int64_t compressed_step() const { return compressed_steps_ - 1; }

  /// Sums the first `values` of a payload, `basis` being the factor whose equality on all
  /// ranks the result depends on.
  Work send(LowRankBucket& bucket, Side side, int64_t values, Side basis, BucketChannel& channel);
  void check_factors(LowRankBucket& bucket, Side side, int64_t values) const;

 private:
  void restart(FactoredMatrix& matrix, int64_t index) const;
  bool comparison_is_due() const;
  std::vector<ParameterResidual> residuals() const;
  void carry_over(const std::vector<LowRankBucket>& from,
                  const std::vector<NamedParameter>& parameters, Communicator* share_holders);

  std::string method_;
  LowRankOptions options_;
  std::vector<LowRankBucket> buckets_;
  int64_t steps_ = 0;
  int64_t compressed_steps_ = 0;
  int64_t loaded_at_ = -1;  ///< compressed step that follows on the latest load()
  int ranks_ = 1;           ///< of the group that sums
};

}  // namespace isobar
