// SPDX-License-Identifier: Apache-2.0
// Ranks are threads, each with its own connections over loopback.
#include "comm/gloo/communicator.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"
#include "comm/forked.hpp"
#include "comm/on_threads.hpp"
#include "comm/process_counts.hpp"
#include "comm/scenarios.hpp"
#include "comm/values.hpp"

namespace isobar::test::gloo_world_test {
namespace {

using namespace std::chrono_literals;

/// Runs `body` once a rank, each with its part of a Gloo world over loopback.
void hand_out_gloo_ranks(int size, const std::function<void(std::unique_ptr<Communicator>)>& body,
                         GlooOptions options = {}) {
  options.size = size;
  options.address = "127.0.0.1";
  options.store = std::make_shared<MemoryStore>();
  options.timeout = kLongerThanChildren;
  on_threads(size, [&](int rank) {
    auto own = options;
    own.rank = rank;
    own.cause = std::make_shared<FirstCause>();
    body(make_gloo_communicator(own));
  });
}

void run_gloo_ranks(int size, const std::function<void(Communicator&)>& body,
                    const GlooOptions& options = {}) {
  hand_out_gloo_ranks(
      size, [&](std::unique_ptr<Communicator> comm) { body(*comm); }, options);
}

/// Counts what Gloo asks of it.
class CountingStore final : public KeyValueStore {
 public:
  void set(const std::string& key, const std::string& value) override { values_.set(key, value); }
  std::string get(const std::string& key, std::chrono::milliseconds timeout) override {
    auto value = values_.get(key, timeout);
    ++gets;
    bytes += static_cast<int64_t>(value.size());
    return value;
  }

  std::atomic<int64_t> gets = 0, bytes = 0;

 private:
  MemoryStore values_;
};

// At 2,048 ranks 8 bytes a rank in each of 4 million answers would be 70 GB through rank 0.
TEST(GlooWorld, AsksOnceForEachAddressWhoseLengthDoesNotGrowWithTheRanks) {
  std::vector<int64_t> bytes_each;
  for (const int size : {4, 24}) {
    const auto store = std::make_shared<CountingStore>();
    on_threads(size, [&](int rank) {
      make_gloo_communicator({.rank = rank,
                              .size = size,
                              .address = "127.0.0.1",
                              .store = store,
                              .timeout = kLongerThanChildren,
                              .cause = std::make_shared<FirstCause>()})
          ->barrier()
          .wait();
    });
    EXPECT_LE(store->gets, size * size);
    bytes_each.push_back(store->bytes / store->gets);
  }
  EXPECT_NEAR(bytes_each[1], bytes_each[0], 8);
}

TEST(GlooWorld, RefusesMoreRanksThanItCanConnectInALineThatSaysWhatToUse) {
  const auto error = error_of<UsageError>(
      [] { make_gloo_communicator({.rank = 7, .size = 2048, .address = "127.0.0.1"}); });
  expect_contains(error, "rank 7 of 2048");
  expect_contains(error, "at most 1024 ranks");
  expect_contains(error, "mpirun or srun --mpi=pmix");
}

class OnGloo : public testing::TestWithParam<Scenario> {};

TEST_P(OnGloo, BehavesAsEveryBackend) {
  for (const int size : {1, 2, 3, 4, 5}) {
    SCOPED_TRACE("world of " + std::to_string(size));
    run_gloo_ranks(size, GetParam().run);
  }
}

INSTANTIATE_TEST_SUITE_P(Loopback, OnGloo, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(OnGloo, BehavesSoWhereItIsDeterministic) {
  GlooOptions options;
  options.deterministic = true;
  run_gloo_ranks(3, GetParam().run, options);
}

/// Values whose sum depends on the order in which they are added.
at::Tensor rounding_values(at::ScalarType type, int rank, int64_t count) {
  return (at::sin(at::arange(0, count, at::kDouble) * (1 + rank)) * 1e-3).to(type);
}

/// Every rank's sum on a world of threads, whose order is that of the ranks.
at::Tensor sum_of_threads(at::ScalarType type, int size, int64_t count) {
  at::Tensor result;
  run_ranks(size, [&](Communicator& comm) {
    auto values = rounding_values(type, comm.rank(), count);
    comm.allreduce(values).wait();
    if (comm.rank() == 0) result = values;
  });
  return result;
}

TEST(GlooWorld, GivesTheBitsOfThreadsWhereItIsDeterministic) {
  GlooOptions options;
  options.deterministic = true;
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    // One element, around a round of owners' segments, and several rounds with a rest.
    for (const int64_t count : {1, 5, 65535, 65536 * 3, 65536 * 3 + 1, 1'000'003}) {
      const auto expected = sum_of_threads(type, 3, count);
      run_gloo_ranks(
          3,
          [&](Communicator& comm) {
            auto values = rounding_values(type, comm.rank(), count);
            comm.allreduce(values).wait();
            EXPECT_TRUE(at::equal(values, expected)) << type << " " << count;
          },
          options);
    }
  }
}

/// Small integers, whose sums are exact in any order, with a period that no piece has.
at::Tensor exact_values(int rank, int64_t count) {
  return (at::arange(count) % 1021 + 7 * rank).to(at::kFloat);
}

TEST(GlooWorld, SumsRightAroundEachSwitchOfAlgorithm) {
  constexpr int kSize = 3;
  constexpr int64_t kOwners = (128 << 10) / 4 * kSize;
  constexpr int64_t kPiece = (512 << 10) / 4 * kSize;
  for (const int64_t count :
       {kOwners - 1, kOwners, kOwners + 1, kPiece, 2 * kPiece - 1, 2 * kPiece, 7 * kPiece + 3}) {
    auto expected = at::zeros({count});
    for (int r = 0; r < kSize; ++r) expected += exact_values(r, count);
    for (const bool in_pieces : {false, true}) {
      GlooOptions options;
      options.in_pieces = in_pieces;
      run_gloo_ranks(
          kSize,
          [&](Communicator& comm) {
            auto values = exact_values(comm.rank(), count);
            comm.allreduce(values).wait();
            EXPECT_TRUE(at::equal(values, expected)) << count;
          },
          options);
    }
  }
}

TEST(GlooWorld, LeavesNoDescriptorsAndThreadsBehind) {
  expect_nothing_left(10, [] { run_gloo_ranks(2, use_every_connection); });
}

TEST(GlooWorld, MayBeStaticAndEndWithWorkInFlight) {
  EXPECT_EQ(end_of_child([] {
              static std::array<std::unique_ptr<Communicator>, 2> kept;
              static std::array<Work, 2> in_flight;
              hand_out_gloo_ranks(2, [](std::unique_ptr<Communicator> comm) {
                const int rank = comm->rank();
                in_flight.at(rank) = comm->allreduce(at::ones({1 << 20}));
                kept.at(rank) = std::move(comm);
              });
              if (testing::Test::HasFailure()) throw Error("a rank failed");
            }),
            "");
}

TEST(GlooWorld, IsLeftAloneByForkedHelpers) {
  hand_out_gloo_ranks(
      2, [](std::unique_ptr<Communicator> comm) { EXPECT_EQ(what_children_do(comm), ""); });
}

TEST(GlooWorld, RefusesRowsThatTheOtherRankDoesNotSend) {
  run_gloo_ranks(2, [](Communicator& comm) {
    comm.set_timeout(10s);
    auto input = at::ones({4, 2});
    auto output = at::empty({comm.rank() == 0 ? 3 : 4, 2});
    const std::vector<int64_t> sent{2, 2};
    const std::vector<int64_t> expected{comm.rank() == 0 ? 2 : 2, comm.rank() == 0 ? 1 : 2};
    auto work = comm.all_to_all(output, input, expected, sent);
    if (comm.rank() == 1) return;
    expect_contains(error_of<CommError>([&] { work.wait(); }),
                    "all_to_all #0 on rank 0 of 2: rank 1 sends 2 rows to rank 0, which expects 1");
  });
}

}  // namespace
}  // namespace isobar::test::gloo_world_test
