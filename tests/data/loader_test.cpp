// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/loader.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <atomic>
#include <chrono>
#include <thread>

#include "core/message_of.hpp"

namespace isobar::loader_test {
namespace {

using namespace std::chrono_literals;

/// A batch that says of which samples it was made.
Batch labelled(const std::vector<int64_t>& indices) {
  Batch batch;
  batch.times = indices;
  return batch;
}

TEST(Loader, GivesTheBatchesInOrderAndThenNothing) {
  Loader loader(labelled, {{3}, {1, 2}, {0}});
  EXPECT_EQ(loader.next()->times, std::vector<int64_t>{3});
  EXPECT_EQ(loader.next()->times, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(loader.next()->times, std::vector<int64_t>{0});
  EXPECT_FALSE(loader.next().has_value());
  EXPECT_FALSE(loader.next().has_value());
}

TEST(Loader, GivesNothingForNoBatches) { EXPECT_FALSE(Loader(labelled, {}).next().has_value()); }

TEST(Loader, PreparesAsManyBatchesAheadAsAsked) {
  std::atomic<int> made = 0;
  Loader loader(
      [&](const std::vector<int64_t>& indices) {
        ++made;
        return labelled(indices);
      },
      Batches(10, {0}), {.prefetch = 3});
  while (made < 3) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(made, 3);
  loader.next();
  while (made < 4) std::this_thread::sleep_for(1ms);
}

TEST(Loader, ThrowsWhatThePreparationThrewAfterTheBatchesBeforeIt) {
  Loader loader(
      [](const std::vector<int64_t>& indices) {
        if (indices.front() == 2) throw DataError("a.nc: truncated");
        return labelled(indices);
      },
      {{0}, {1}, {2}, {3}});
  EXPECT_TRUE(loader.next().has_value());
  EXPECT_TRUE(loader.next().has_value());
  EXPECT_EQ(test::message_of<DataError>([&] { loader.next(); }), "a.nc: truncated");
  EXPECT_EQ(test::message_of<DataError>([&] { loader.next(); }), "a.nc: truncated");
}

TEST(Loader, MayBeDestroyedAtAnyMoment) {
  for (int taken = 0; taken < 5; ++taken) {
    for (const auto pause : {0us, 50us, 500us}) {
      Loader loader(
          [](const std::vector<int64_t>& indices) {
            std::this_thread::sleep_for(100us);
            return labelled(indices);
          },
          Batches(5, {0}), {.prefetch = 1});
      for (int i = 0; i < taken; ++i) loader.next();
      std::this_thread::sleep_for(pause);
    }
  }
}

TEST(Loader, MeasuresHowLongItIsWaitedFor) {
  Loader slow(
      [](const std::vector<int64_t>& indices) {
        std::this_thread::sleep_for(30ms);
        return labelled(indices);
      },
      {{0}});
  EXPECT_EQ(slow.stalled(), 0);
  slow.next();
  EXPECT_GT(slow.stalled(), 0.005);
  EXPECT_LT(slow.stalled(), 30);
}

TEST(Loader, ReadsSampleSets) {
  const auto dataset = std::make_shared<Dataset>(
      DatasetOptions{.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
  const Normalizer normalizer({"t2m"}, compute_statistics(*dataset, {0, 100, 200}));
  const auto samples =
      std::make_shared<SampleSet>(dataset, normalizer, SampleOptions{.forcings = {"insolation"}},
                                  parse_period("2019-03-01", "2019-04-01"));
  // Analyses from 18:00 on the first to 17:00 on the last day.
  EXPECT_EQ(samples->size(), 744 - 18 - 6);
  Loader loader(samples, Sampler(samples->size(), {.batch = 8}).batches(0));
  int steps = 0;
  while (const auto batch = loader.next()) {
    ++steps;
    ASSERT_EQ(batch->state.sizes(), (std::vector<int64_t>{8, 4, 33 * 49, 1}));
    ASSERT_EQ(batch->forcing.sizes(), (std::vector<int64_t>{8, 5, 33 * 49, 1}));
  }
  EXPECT_EQ(steps, 90);
}

TEST(Loader, RefusesToPrepareNothingAhead) {
  EXPECT_THROW(Loader(labelled, {}, {.prefetch = 0}), UsageError);
}

}  // namespace
}  // namespace isobar::loader_test
