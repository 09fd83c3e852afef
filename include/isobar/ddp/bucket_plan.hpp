// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/reduction.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// A parameter as the reducer knows it: its name, the tensor whose `.grad` is
/// reduced, and what its gradient means inside a model-parallel group.
struct NamedParameter {
  std::string name;
  at::Tensor tensor;
  Reduction reduction = Reduction::replicated;
};

/// How large buckets grow before they close.
struct BucketCaps {
  /// A bucket closes once it holds at least this many bytes. Tensors are never
  /// split, so a bucket may exceed its cap by all but one byte of its last one.
  int64_t cap_bytes = 25 * 1024 * 1024;
  /// The cap of the bucket that closes first: small, so that communication
  /// starts early in the backward pass.
  int64_t first_cap_bytes = 1024 * 1024;
  /// What the bucket that fills last holds at most (but at least one tensor):
  /// nothing hides its reduction, so it should be small. One such bucket for each
  /// (type, device, reduction), filled from the end of the order. 0: none.
  int64_t last_cap_bytes = 0;
  /// Caps by bucket, in the order in which buckets close; the last one repeats.
  /// Where it is not empty it stands in for all of the above.
  std::vector<int64_t> cap_list{};
};

/// One bucket: parameters of one type, device and reduction that are reduced
/// by one collective.
struct Bucket {
  std::vector<int64_t> parameters;  ///< indices into the parameter list, in arrival order
  int64_t bytes = 0;                ///< of the gradients, without padding
};

/// The buckets of a model in the order in which they are launched, that is, in
/// which they are expected to fill during the backward pass.
using BucketPlan = std::vector<Bucket>;

/// Walks `parameters` in `order` (a permutation of their indices, gradients that
/// arrive first coming first) and fills one open bucket for each (type, device,
/// reduction); a bucket that reaches its cap closes. Buckets are listed in the
/// order in which they fill. Throws UsageError for a cap that is not positive
/// (last_cap_bytes: that is negative) or an order that is not a permutation.
BucketPlan plan_buckets(const std::vector<NamedParameter>& parameters,
                        const std::vector<int64_t>& order, const BucketCaps& caps);

/// The order to start with: gradients arrive, roughly, in reverse of the order
/// in which a module registered its parameters.
std::vector<int64_t> reverse_order(int64_t parameters);

}  // namespace isobar
