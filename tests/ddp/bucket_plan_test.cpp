// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/bucket_plan.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace isobar::bucket_plan_test {
namespace {

NamedParameter parameter(int64_t floats, at::ScalarType type = at::kFloat,
                         Reduction reduction = Reduction::replicated) {
  return {"p", at::zeros({floats}, type), reduction};
}

std::vector<std::vector<int64_t>> indices(const BucketPlan& plan) {
  std::vector<std::vector<int64_t>> result;
  for (const auto& bucket : plan) result.push_back(bucket.parameters);
  return result;
}

using Indices = std::vector<std::vector<int64_t>>;

TEST(BucketPlan, ClosesABucketAtItsCap) {
  const std::vector<NamedParameter> parameters(5, parameter(10));
  const auto plan = plan_buckets(parameters, {0, 1, 2, 3, 4}, {80, 80});
  EXPECT_EQ(indices(plan), (Indices{{0, 1}, {2, 3}, {4}}));
  EXPECT_EQ(plan[0].bytes, 80);
}

TEST(BucketPlan, GivesTheFirstBucketTheSmallerCap) {
  const std::vector<NamedParameter> parameters(5, parameter(10));
  EXPECT_EQ(indices(plan_buckets(parameters, {0, 1, 2, 3, 4}, {120, 40})),
            (Indices{{0}, {1, 2, 3}, {4}}));
  EXPECT_EQ(indices(plan_buckets(parameters, {0, 1, 2, 3, 4}, {40, 1000})),
            (Indices{{0}, {1}, {2}, {3}, {4}}));
}

TEST(BucketPlan, FollowsTheOrderOfArrival) {
  const std::vector<NamedParameter> parameters(4, parameter(10));
  EXPECT_EQ(indices(plan_buckets(parameters, {3, 1, 0, 2}, {80, 80})), (Indices{{3, 1}, {0, 2}}));
  EXPECT_EQ(reverse_order(3), (std::vector<int64_t>{2, 1, 0}));
}

TEST(BucketPlan, NeverMixesTypesOrReductions) {
  const std::vector<NamedParameter> parameters{
      parameter(4), parameter(4, at::kDouble), parameter(4),
      parameter(4, at::kFloat, Reduction::partial), parameter(4, at::kDouble)};
  EXPECT_EQ(indices(plan_buckets(parameters, {0, 1, 2, 3, 4}, {1 << 20, 1 << 20})),
            (Indices{{0, 2}, {3}, {1, 4}}));
}

TEST(BucketPlan, KeepsATensorLargerThanTheCapWhole) {
  const std::vector<NamedParameter> parameters{parameter(1000), parameter(0), parameter(1)};
  EXPECT_EQ(indices(plan_buckets(parameters, {0, 1, 2}, {8, 8})), (Indices{{0}, {1, 2}}));
}

TEST(BucketPlan, TakesCapsByBucketAndRepeatsTheLast) {
  const std::vector<NamedParameter> parameters(8, parameter(10));
  const BucketCaps caps{
      .cap_bytes = 1, .first_cap_bytes = 1, .last_cap_bytes = 40, .cap_list = {40, 120, 80}};
  EXPECT_EQ(indices(plan_buckets(parameters, {0, 1, 2, 3, 4, 5, 6, 7}, caps)),
            (Indices{{0}, {1, 2, 3}, {4, 5}, {6, 7}}));
}

TEST(BucketPlan, FillsASmallLastBucketFromTheEnd) {
  const std::vector<NamedParameter> parameters(7, parameter(10));
  const auto plan_with = [&](int64_t last) {
    return indices(
        plan_buckets(parameters, {0, 1, 2, 3, 4, 5, 6},
                     {.cap_bytes = 120, .first_cap_bytes = 120, .last_cap_bytes = last}));
  };
  EXPECT_EQ(plan_with(0), (Indices{{0, 1, 2}, {3, 4, 5}, {6}}));
  EXPECT_EQ(plan_with(80), (Indices{{0, 1, 2}, {3, 4}, {5, 6}}));
  EXPECT_EQ(plan_with(119), (Indices{{0, 1, 2}, {3, 4}, {5, 6}}));  // at most
  EXPECT_EQ(plan_with(1), (Indices{{0, 1, 2}, {3, 4, 5}, {6}}));    // but at least one tensor
  EXPECT_EQ(plan_with(1000), (Indices{{0, 1, 2, 3, 4, 5, 6}}));
}

TEST(BucketPlan, GivesEachTypeASmallLastBucket) {
  const std::vector<NamedParameter> parameters{parameter(10), parameter(10, at::kDouble),
                                               parameter(10), parameter(10, at::kDouble),
                                               parameter(10)};
  EXPECT_EQ(
      indices(plan_buckets(parameters, {0, 1, 2, 3, 4}, {.cap_bytes = 1000, .last_cap_bytes = 80})),
      (Indices{{0}, {1}, {3}, {2, 4}}));
}

TEST(BucketPlan, RefusesCapsAndOrdersThatMakeNoSense) {
  const std::vector<NamedParameter> parameters(2, parameter(1));
  EXPECT_THROW(plan_buckets(parameters, {0, 1}, {0, 1}), UsageError);
  EXPECT_THROW(plan_buckets(parameters, {0, 1}, {1, -1}), UsageError);
  EXPECT_THROW(plan_buckets(parameters, {0, 1}, {.last_cap_bytes = -1}), UsageError);
  EXPECT_THROW(plan_buckets(parameters, {0, 1}, {.cap_list = {1, 0}}), UsageError);
  EXPECT_THROW(plan_buckets(parameters, {0, 0}, {1, 1}), UsageError);
  EXPECT_THROW(plan_buckets(parameters, {0}, {1, 1}), UsageError);
}

}  // namespace
}  // namespace isobar::bucket_plan_test
