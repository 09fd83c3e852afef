// SPDX-License-Identifier: Apache-2.0
#include "ddp/frozen_parameters.hpp"

#include <isobar/core/hash.hpp>
#include <ATen/ATen.h>

namespace isobar {

FrozenParameters::FrozenParameters(const std::vector<NamedParameter>& parameters)
    : parameters_(parameters), frozen_(parameters.size()) {}

void FrozenParameters::notice_accumulation() {
  if (!trained_.empty()) return;
  for (const auto& parameter : parameters_) trained_.push_back(parameter.tensor.requires_grad());
}

bool FrozenParameters::settle() {
  bool is_other = !is_settled_once_;
  is_settled_once_ = true;
  for (size_t p = 0; p < frozen_.size(); ++p) {
    const bool is_frozen = !parameters_[p].tensor.requires_grad() && !has_accumulated(p);
    is_other |= is_frozen != frozen_[p];
    frozen_[p] = is_frozen;
  }
  return is_other;
}

// What is left of an earlier step, or was zeroed since, is no reason to move a frozen parameter.
bool FrozenParameters::has_accumulated(size_t parameter) const {
  if (trained_.empty() || !trained_[parameter]) return false;
  const auto& grad = parameters_[parameter].tensor.grad();
  if (!grad.defined()) return false;
  return grad.layout() != at::kStrided || grad.detach().any().item<bool>();
}

bool FrozenParameters::is_thawed(int64_t parameter) const {
  return frozen_[parameter] && parameters_[parameter].tensor.requires_grad();
}

void FrozenParameters::write(const Bucket& bucket, BucketMark& mark) const {
  uint64_t hash = 0;
  for (const int64_t p : bucket.parameters) {
    if (!frozen_[p]) continue;
    ++mark.frozen;
    hash += splitmix64((static_cast<uint64_t>(p) + 1) * kSplitmix64Step);
  }
  mark.set = static_cast<uint32_t>(hash >> 32);
}

}  // namespace isobar
