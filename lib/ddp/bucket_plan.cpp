// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/bucket_plan.hpp>

#include <isobar/core/error.hpp>

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

namespace isobar {
namespace {

using Key = std::tuple<at::ScalarType, std::string, Reduction>;

Key key_of(const NamedParameter& parameter) {
  return {parameter.tensor.scalar_type(), parameter.tensor.device().str(), parameter.reduction};
}

void check_caps(const BucketCaps& caps) {
  ISOBAR_CHECK(caps.cap_bytes > 0 && caps.first_cap_bytes > 0,
               "plan_buckets: bucket caps must be positive, got cap_bytes ", caps.cap_bytes,
               " and first_cap_bytes ", caps.first_cap_bytes);
  ISOBAR_CHECK(caps.last_cap_bytes >= 0, "plan_buckets: last_cap_bytes must be 0 or more, got ",
               caps.last_cap_bytes);
  for (const int64_t cap : caps.cap_list) {
    ISOBAR_CHECK(cap > 0, "plan_buckets: the caps in cap_list must be positive, got ", cap);
  }
}

void check_order(const std::vector<int64_t>& order, size_t parameters) {
  std::vector<int64_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> expected(parameters);
  std::iota(expected.begin(), expected.end(), 0);
  ISOBAR_CHECK(sorted == expected, "plan_buckets: the order of ", order.size(),
               " entries is not a permutation of ", parameters, " parameters");
}

int64_t cap_of(const BucketCaps& caps, size_t bucket) {
  if (!caps.cap_list.empty()) return caps.cap_list[std::min(bucket, caps.cap_list.size() - 1)];
  return bucket == 0 ? std::min(caps.first_cap_bytes, caps.cap_bytes) : caps.cap_bytes;
}

/// Fills open buckets, one for each key, and closes those that have enough.
class Planner {
 public:
  Planner(const std::vector<NamedParameter>& parameters, const BucketCaps& caps)
      : parameters_(parameters), caps_(caps), in_tail_(parameters.size(), false) {}

  /// Sets apart what arrives last of each key, as far as it fits into the small last bucket.
  void reserve_tail(const std::vector<int64_t>& order) {
    if (caps_.last_cap_bytes == 0 || !caps_.cap_list.empty()) return;
    std::map<Key, int64_t> room;
    for (auto index = order.rbegin(); index != order.rend(); ++index) {
      const auto bytes = static_cast<int64_t>(parameters_[*index].tensor.nbytes());
      const auto [entry, is_last] =
          room.try_emplace(key_of(parameters_[*index]), caps_.last_cap_bytes);
      in_tail_[*index] = is_last || bytes <= entry->second;
      entry->second = in_tail_[*index] ? entry->second - bytes : -1;
    }
  }

  void add(int64_t index) {
    const auto key = key_of(parameters_[index]);
    Bucket& bucket = (in_tail_[index] ? tail_ : open_)[key];
    bucket.parameters.push_back(index);
    bucket.bytes += static_cast<int64_t>(parameters_[index].tensor.nbytes());
    if (in_tail_[index] || bucket.bytes < cap_of(caps_, plan_.size())) return;
    plan_.push_back(std::move(bucket));
    open_.erase(key);
  }

  /// What is still open fills with its latest parameter, as the others did.
  BucketPlan finish(const std::vector<int64_t>& order) {
    for (auto* left : {&open_, &tail_}) {
      for (auto& [key, bucket] : *left) plan_.push_back(std::move(bucket));
    }
    std::vector<int64_t> position(order.size());
    for (size_t i = 0; i < order.size(); ++i) position[order[i]] = static_cast<int64_t>(i);
    std::sort(plan_.begin(), plan_.end(), [&](const Bucket& a, const Bucket& b) {
      return position[a.parameters.back()] < position[b.parameters.back()];
    });
    return std::move(plan_);
  }

 private:
  const std::vector<NamedParameter>& parameters_;
  const BucketCaps& caps_;
  std::vector<bool> in_tail_;  ///< by parameter
  std::map<Key, Bucket> open_, tail_;
  BucketPlan plan_;
};

}  // namespace

BucketPlan plan_buckets(const std::vector<NamedParameter>& parameters,
                        const std::vector<int64_t>& order, const BucketCaps& caps) {
  check_caps(caps);
  check_order(order, parameters.size());
  Planner planner(parameters, caps);
  planner.reserve_tail(order);
  for (const int64_t index : order) planner.add(index);
  return planner.finish(order);
}

std::vector<int64_t> reverse_order(int64_t parameters) {
  std::vector<int64_t> order(parameters);
  std::iota(order.rbegin(), order.rend(), 0);
  return order;
}

}  // namespace isobar
