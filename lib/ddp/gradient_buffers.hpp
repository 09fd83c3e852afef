// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/bucket_plan.hpp>

#include <vector>

namespace isobar {

/// The memory of a model's gradients: one flat buffer for each (type, device,
/// reduction), in which every bucket of a plan is a contiguous slice and every
/// parameter a slot that starts at a multiple of 64 bytes. Padding is zero.
class GradientBuffers {
 public:
  /// Allocates zeroed memory. Takes over the values of gradients that exist,
  /// and makes every parameter's `.grad` an alias of its slot.
  GradientBuffers(const std::vector<NamedParameter>& parameters, const BucketPlan& plan);

  /// The bucket's slice, one-dimensional, padding included.
  const at::Tensor& bucket(int64_t index) const { return buckets_[index]; }

  /// True if the parameter's `.grad` is its slot.
  bool is_bound(int64_t parameter) const;

  /// Makes `.grad` the slot. A gradient found elsewhere is copied in first;
  /// where there is none, the slot becomes zero. Returns whether it copied.
  bool bind(int64_t parameter);

  /// Zeroes all buffers and binds every parameter.
  void zero();

 private:
  void allocate(const BucketPlan& plan);

  std::vector<at::Tensor> parameters_;
  std::vector<at::Tensor> buffers_;
  std::vector<at::Tensor> buckets_;
  std::vector<at::Tensor> slots_;  ///< by parameter; aliases with the parameter's shape
  std::vector<Reduction> reductions_;
};

}  // namespace isobar
