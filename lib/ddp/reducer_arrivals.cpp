// SPDX-License-Identifier: Apache-2.0
#include "ddp/reducer_arrivals.hpp"

#include <algorithm>

namespace isobar {
namespace {

/// What a bucket waits for that only finish() sends: more than all gradients, of which many add up.
constexpr int64_t kForEver = int64_t{1} << 40;

/// Of a parameter that was frozen in every step until now.
constexpr int64_t kUncounted = -1;

}  // namespace

Arrivals::Arrivals(int64_t parameters, Launch launch)
    : launch_(launch),
      bucket_of_(parameters),
      frozen_(parameters),
      seen_(parameters),
      latest_(parameters) {}

void Arrivals::set_plan(const BucketPlan& plan) {
  plan_ = plan;
  for (size_t b = 0; b < plan.size(); ++b) {
    for (const int64_t p : plan[b].parameters) bucket_of_[p] = static_cast<int64_t>(b);
  }
  start_step();
}

void Arrivals::set_frozen(const std::vector<bool>& frozen) {
  frozen_ = frozen;
  start_step();
}

void Arrivals::thaw(int64_t parameter) {
  frozen_[parameter] = false;
  missing_[bucket_of_[parameter]] += gradients_awaited(parameter);
}

int64_t Arrivals::gradients_awaited(int64_t parameter) const {
  if (frozen_[parameter]) return 0;
  if (launch_ == Launch::first_gradient) return 1;
  if (!is_counted()) return 0;
  return expected_[parameter] == kUncounted ? kForEver : expected_[parameter];
}

bool Arrivals::is_exhausted(int64_t parameter) const {
  return is_counted() && expected_[parameter] != kUncounted &&
         seen_[parameter] >= expected_[parameter];
}

void Arrivals::start_step() {
  std::fill(seen_.begin(), seen_.end(), 0);
  std::fill(latest_.begin(), latest_.end(), 0);
  clock_ = 0;
  const bool waits_for_finish = launch_ != Launch::first_gradient && !is_counted();
  missing_.assign(plan_.size(), waits_for_finish ? kForEver : 0);
  for (size_t p = 0; p < bucket_of_.size(); ++p) {
    missing_[bucket_of_[p]] += gradients_awaited(static_cast<int64_t>(p));
  }
}

void Arrivals::add(int64_t parameter) {
  latest_[parameter] = ++clock_;
  if (seen_[parameter]++ < gradients_awaited(parameter)) --missing_[bucket_of_[parameter]];
}

void Arrivals::forget(int64_t parameter) {
  missing_[bucket_of_[parameter]] += std::min(seen_[parameter], gradients_awaited(parameter));
  seen_[parameter] = 0;
  latest_[parameter] = 0;
}

std::vector<int64_t> Arrivals::order() const {
  std::vector<int64_t> order;
  for (const auto& bucket : plan_) {
    order.insert(order.end(), bucket.parameters.begin(), bucket.parameters.end());
  }
  // Never comes after every time: 0 - 1 wraps to the largest.
  const auto when = [&](int64_t p) { return static_cast<uint64_t>(latest_[p]) - 1; };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return when(a) < when(b); });
  return order;
}

int64_t Arrivals::end_step() {
  int64_t deviations = 0;
  if (launch_ == Launch::counted) {
    expected_.resize(seen_.size(), kUncounted);
    for (size_t p = 0; p < seen_.size(); ++p) {
      if (frozen_[p]) continue;
      deviations += seen_[p] < expected_[p] ? 1 : 0;
      if (expected_[p] == kUncounted) expected_[p] = seen_[p];
    }
  }
  start_step();
  return deviations;
}

}  // namespace isobar
