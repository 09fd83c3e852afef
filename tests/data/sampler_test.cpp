// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/sampler.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/message_of.hpp"

namespace isobar::sampler_test {
namespace {

using test::message_of;

SamplerOptions options_of(int rank, int size, int64_t batch) {
  return {.batch = batch, .rank = rank, .size = size, .seed = 7};
}

/// The samples of a step over all ranks, in the order of ranks.
std::vector<int64_t> step_samples(int64_t samples, int size, int64_t batch, int64_t epoch,
                                  int64_t step) {
  std::vector<int64_t> all;
  for (int rank = 0; rank < size; ++rank) {
    const auto part = Sampler(samples, options_of(rank, size, batch)).batches(epoch)[step];
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::vector<int64_t> flattened(const Batches& batches) {
  std::vector<int64_t> all;
  for (const auto& batch : batches) all.insert(all.end(), batch.begin(), batch.end());
  return all;
}

TEST(ShuffledIndices, AreEachIndexOnce) {
  for (const int64_t n : {0, 1, 2, 3, 100}) {
    std::vector<int64_t> order = shuffled_indices(n, 1, 2);
    std::sort(order.begin(), order.end());
    std::vector<int64_t> wanted(n);
    std::iota(wanted.begin(), wanted.end(), 0);
    EXPECT_EQ(order, wanted);
  }
}

TEST(ShuffledIndices, AreTheSameOnEveryMachine) {
  // From the description in the header, in Python's integers.
  EXPECT_EQ(shuffled_indices(10, 0, 0), (std::vector<int64_t>{6, 3, 2, 9, 8, 1, 4, 7, 0, 5}));
  EXPECT_EQ(shuffled_indices(10, 42, 3), (std::vector<int64_t>{6, 3, 0, 5, 8, 9, 1, 4, 2, 7}));
}

TEST(ShuffledIndices, PutEveryIndexEverywhereEquallyOften) {
  std::map<std::pair<int64_t, int64_t>, int> counts;
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    const std::vector<int64_t> order = shuffled_indices(3, seed, seed % 5);
    ++counts[{order[0], order[1]}];
  }
  EXPECT_EQ(counts.size(), 6);
  // Six orders of 1000 expected each; 150 is five standard deviations.
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 1000, 150);
}

TEST(Sampler, GivesTheSameStepsWhateverTheLayout) {
  for (int64_t step = 0; step < 3; ++step) {
    const std::vector<int64_t> one = step_samples(29, 1, 8, 4, step);
    EXPECT_EQ(step_samples(29, 2, 4, 4, step), one);
    EXPECT_EQ(step_samples(29, 4, 2, 4, step), one);
    EXPECT_EQ(step_samples(29, 8, 1, 4, step), one);
  }
}

TEST(Sampler, GivesNoSampleTwiceInAnEpochAndLeavesOutTheIncompleteStep) {
  std::vector<int64_t> all;
  for (int rank = 0; rank < 3; ++rank) {
    const Sampler sampler(20, options_of(rank, 3, 2));
    EXPECT_EQ(sampler.steps(), 3);
    const auto part = flattened(sampler.batches(0));
    all.insert(all.end(), part.begin(), part.end());
  }
  EXPECT_EQ(all.size(), 18);
  EXPECT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 18);
}

TEST(Sampler, RepeatsAnEpochAndShufflesTheNext) {
  const Sampler sampler(40, options_of(1, 2, 4));
  EXPECT_EQ(sampler.batches(5), Sampler(40, options_of(1, 2, 4)).batches(5));
  EXPECT_NE(sampler.batches(5), sampler.batches(6));
  SamplerOptions other = options_of(1, 2, 4);
  other.seed = 8;
  EXPECT_NE(sampler.batches(5), Sampler(40, other).batches(5));
}

TEST(Sampler, GivesEveryRankEverythingWhereReplicated) {
  SamplerOptions first = options_of(0, 2, 5);
  first.policy = SamplerPolicy::replicated;
  SamplerOptions second = first;
  second.rank = 1;
  EXPECT_EQ(Sampler(10, first).batches(3), Sampler(10, second).batches(3));
  EXPECT_EQ(flattened(Sampler(10, first).batches(3)).size(), 10);
  EXPECT_EQ(flattened(every_sample(10, second)).size(), 10);
}

TEST(Sampler, KeepsTheOrderWhereAsked) {
  SamplerOptions options = options_of(1, 2, 2);
  options.order = SampleOrder::in_order;
  EXPECT_EQ(Sampler(9, options).batches(3), (Batches{{2, 3}, {6, 7}}));
}

TEST(Sampler, RefusesAStepOfMoreSamplesThanThereAre) {
  const std::string message = message_of<UsageError>([] { Sampler(7, options_of(0, 2, 4)); });
  EXPECT_EQ(message, "Sampler: a step takes 8 samples (2 ranks x 4), but there are only 7");
  EXPECT_NO_THROW(Sampler(8, options_of(0, 2, 4)));
  EXPECT_THROW(Sampler(0, options_of(0, 1, 1)), UsageError);
  EXPECT_THROW(Sampler(8, options_of(2, 2, 1)), UsageError);
  EXPECT_THROW(Sampler(8, options_of(0, 1, 0)), UsageError);
}

TEST(EverySample, CoversAllSamplesOnceOverTheRanks) {
  for (const int64_t samples : {0, 1, 2, 7, 8, 9}) {
    std::vector<int64_t> all;
    for (int rank = 0; rank < 4; ++rank) {
      const Batches batches = every_sample(samples, options_of(rank, 4, 2));
      for (const auto& batch : batches) EXPECT_FALSE(batch.empty());
      const auto part = flattened(batches);
      all.insert(all.end(), part.begin(), part.end());
    }
    std::vector<int64_t> wanted(samples);
    std::iota(wanted.begin(), wanted.end(), 0);
    EXPECT_EQ(all, wanted);
  }
}

}  // namespace
}  // namespace isobar::sampler_test
