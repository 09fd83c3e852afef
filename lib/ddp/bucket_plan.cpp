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

void check_order(const std::vector<int64_t>& order, size_t parameters) {
  std::vector<int64_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> expected(parameters);
  std::iota(expected.begin(), expected.end(), 0);
  ISOBAR_CHECK(sorted == expected, "plan_buckets: the order of ", order.size(),
               " entries is not a permutation of ", parameters, " parameters");
}

}  // namespace

BucketPlan plan_buckets(const std::vector<NamedParameter>& parameters,
                        const std::vector<int64_t>& order, const BucketCaps& caps) {
  ISOBAR_CHECK(caps.cap_bytes > 0 && caps.first_cap_bytes > 0,
               "plan_buckets: bucket caps must be positive, got cap_bytes ", caps.cap_bytes,
               " and first_cap_bytes ", caps.first_cap_bytes);
  check_order(order, parameters.size());

  BucketPlan plan;
  std::map<Key, Bucket> open;
  for (const int64_t index : order) {
    const auto& parameter = parameters[index];
    Bucket& bucket = open[key_of(parameter)];
    bucket.parameters.push_back(index);
    bucket.bytes += static_cast<int64_t>(parameter.tensor.nbytes());
    const int64_t cap =
        plan.empty() ? std::min(caps.first_cap_bytes, caps.cap_bytes) : caps.cap_bytes;
    if (bucket.bytes >= cap) {
      plan.push_back(std::move(bucket));
      open.erase(key_of(parameter));
    }
  }
  // What is left closes with the last parameter; listed by its latest arrival.
  std::vector<int64_t> position(parameters.size());
  for (size_t i = 0; i < order.size(); ++i) position[order[i]] = static_cast<int64_t>(i);
  const auto tail = static_cast<std::ptrdiff_t>(plan.size());
  for (auto& [key, bucket] : open) plan.push_back(std::move(bucket));
  std::sort(plan.begin() + tail, plan.end(), [&](const Bucket& a, const Bucket& b) {
    return position[a.parameters.back()] < position[b.parameters.back()];
  });
  return plan;
}

std::vector<int64_t> reverse_order(int64_t parameters) {
  std::vector<int64_t> order(parameters);
  std::iota(order.rbegin(), order.rend(), 0);
  return order;
}

}  // namespace isobar
