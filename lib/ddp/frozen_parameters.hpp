// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/ddp/bucket_plan.hpp>

#include <cstdint>
#include <vector>

namespace isobar {

/// Which parameters are frozen (requires_grad false) in a step. That is settled when the step
/// opens, with its first gradient outside of accumulate() or in finish(): those frozen then take
/// part with zeros. One that is frozen after it has accumulated gradients in this step takes part
/// with those, as an optimizer of LibTorch would use them.
class FrozenParameters {
 public:
  explicit FrozenParameters(const std::vector<NamedParameter>& parameters);

  /// A gradient inside accumulate(): the first of a step tells which parameters are trained in it.
  void notice_accumulation();

  /// Settles a step. Returns whether it is another one than the last in what is frozen.
  bool settle();

  bool is_frozen(int64_t parameter) const { return frozen_[parameter]; }
  const std::vector<bool>& frozen() const { return frozen_; }

  /// True for a parameter that was frozen when the step was settled and is not any more.
  bool is_thawed(int64_t parameter) const;

  /// Lets such a one take part in this step.
  void thaw(int64_t parameter) { frozen_[parameter] = false; }

  void end_step() { trained_.clear(); }

  /// How many of the bucket's parameters are frozen, and a hash of which.
  void write(const Bucket& bucket, BucketMark& mark) const;

 private:
  bool has_accumulated(size_t parameter) const;

  const std::vector<NamedParameter>& parameters_;
  std::vector<bool> frozen_;
  bool is_settled_once_ = false;
  std::vector<bool> trained_;  ///< at the first gradient inside accumulate(); empty: none came
};

}  // namespace isobar
