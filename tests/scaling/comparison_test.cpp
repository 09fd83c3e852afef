// SPDX-License-Identifier: Apache-2.0
#include <isobar/scaling/comparison.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "comm/expect_error.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::test::comparison_test {
namespace {

Measurements make_times(std::vector<double> samples, const std::string& value = "step_s") {
  return {.value = value, .commit = "c", .points = {{{{"nodes", "2"}}, std::move(samples), {}}}};
}

Verdict judged(const Measurements& a, const Measurements& b, double tolerance = 0.02) {
  return compare_measurements(a, b, tolerance).points.at(0).verdict;
}

TEST(CompareMeasurements, CallsItSlowerOnlyBeyondNoiseAndTolerance) {
  const auto a = make_times({1.00, 1.01, 0.99, 1.00, 1.02});
  EXPECT_EQ(judged(a, make_times({1.10, 1.11, 1.09, 1.12, 1.10})), Verdict::slower);
  EXPECT_EQ(judged(a, make_times({0.90, 0.91, 0.89, 0.92, 0.90})), Verdict::faster);
  EXPECT_EQ(judged(a, make_times({0.80, 1.40, 0.95, 1.30, 1.10})), Verdict::same) << "noise";
  const auto a_little = make_times({1.015, 1.015, 1.015, 1.016, 1.015});
  EXPECT_EQ(judged(make_times({1, 1, 1, 1, 1}), a_little), Verdict::same);
  EXPECT_EQ(judged(make_times({1, 1, 1, 1, 1}), a_little, 0.01), Verdict::slower);
}

TEST(CompareMeasurements, KnowsThatMoreOfARateIsFaster) {
  const auto a = make_times({1, 1, 1}, "busbw_gbit_s"), b = make_times({2, 2, 2}, "busbw_gbit_s");
  EXPECT_EQ(judged(a, b), Verdict::faster);
  EXPECT_EQ(judged(b, a), Verdict::slower);
}

TEST(CompareMeasurements, LeavesOutWhatOnlyOneHas) {
  auto a = make_times({1}), b = a;
  a.points.push_back({{{"nodes", "4"}}, {1}, {}});
  b.points.push_back({{{"nodes", "8"}}, {1}, {}});
  b.points.push_back({{{"nodes", "16"}}, {1}, {}});
  const auto found = compare_measurements(a, b);
  EXPECT_EQ(found.points.size(), 1u);
  EXPECT_EQ(found.only_a.size(), 1u);
  EXPECT_EQ(found.only_b.size(), 2u);
}

TEST(CompareMeasurements, RefusesWhatCannotBeCompared) {
  const auto a = make_times({1});
  expect_contains(
      error_of<UsageError>([&] { compare_measurements(a, make_times({1}, "median_s")); }),
      "A measures step_s and B median_s");
  auto b = a;
  b.points[0].values = {{"nodes", "8"}};
  expect_contains(error_of<UsageError>([&] { compare_measurements(a, b); }),
                  "no point is in both; A and B differ in nodes 2 and 8");
}

TEST(ReadMeasurements, TakesReportsOfBench) {
  const TemporaryFolder folder;
  write_file(folder / "r.json", R"({"schema": "isobar.bench.collective.1", "commit": "c", "rows": [
    {"op": "allreduce", "bytes": 1024, "median_s": 2, "median_low_s": 1, "median_high_s": 4,
     "busbw_gbit_s": 7, "goodput_gbit_s": null}]})");
  const auto read = read_measurements(folder / "r.json");
  EXPECT_EQ(read.value, "median_s");
  EXPECT_EQ(read.points[0].values, (CampaignValues{{"op", "allreduce"}, {"bytes", "1024"}}));
  EXPECT_EQ(read.points[0].measured.low, 1);
  write_file(folder / "r.json", R"({"schema": "isobar.bench.step.1", "rows": [{"model": "mlp"}]})");
  error_of<DataError>([&] { read_measurements(folder / "r.json"); });
}

}  // namespace
}  // namespace isobar::test::comparison_test
