// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/communicator.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "comm/expect_error.hpp"
#include "comm/nccl_double.hpp"
#include "comm/scenarios.hpp"
#include "comm/signal_flag.hpp"
#include "comm/values.hpp"

namespace isobar::test::nccl_communicator_test {
namespace {

using std::chrono::milliseconds;

void expect_clean(const NcclDouble& nccl) {
  EXPECT_EQ(nccl.violations(), std::vector<std::string>());
  EXPECT_EQ(nccl.communicators(), 0);
}

class NcclScenarios : public testing::TestWithParam<Scenario> {};

TEST_P(NcclScenarios, Behave) {
  const DoubleWorldOptions ways[] = {{}, {.deterministic = true}, {.few_ranks = 1}};
  for (const auto& options : ways) {
    for (const int size : {1, 2, 3, 4}) {
      SCOPED_TRACE(detail::join("world of ", size, ", ", options.few_ranks, " are few",
                                options.deterministic ? ", deterministic" : ""));
      NcclDouble nccl(size);
      run_on_double(nccl, size, options, GetParam().run);
      expect_clean(nccl);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OverADouble, NcclScenarios, testing::ValuesIn(collective_scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

/// Values whose sum depends on the order and on where it is rounded.
at::Tensor rough(at::ScalarType type, int rank, int64_t count) {
  const auto x =
      at::sin(at::arange(0, count, at::kDouble) * (1.7 + rank)) * (1 + 1000 * (rank % 2));
  return x.to(type);
}

/// Each rank's results of an allreduce and a reduce_scatter.
std::vector<at::Tensor> sums(Communicator& world, at::ScalarType type) {
  auto all = rough(type, world.rank(), 101);
  auto input = rough(type, world.rank(), 33 * world.size());
  auto part = at::empty({33}, type);
  world.allreduce(all).wait();
  world.reduce_scatter(part, input).wait();
  return {all, part};
}

using Results = std::vector<std::vector<at::Tensor>>;

Results on_threads(int size, at::ScalarType type) {
  Results results(size);
  run_ranks(size, [&](Communicator& world) { results[world.rank()] = sums(world, type); });
  return results;
}

Results on_nccl(int size, at::ScalarType type, const DoubleWorldOptions& options) {
  Results results(size);
  NcclDouble nccl(size);
  run_on_double(nccl, size, options,
                [&](Communicator& world) { results[world.rank()] = sums(world, type); });
  return results;
}

bool equal(const Results& a, const Results& b) {
  for (size_t r = 0; r < a.size(); ++r) {
    for (size_t i = 0; i < a[r].size(); ++i) {
      if (!at::equal(a[r][i], b[r][i])) return false;
    }
  }
  return true;
}

TEST(NcclCommunicator, DeterministicGivesTheBitsOfTheThreadsBackend) {
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    for (const int size : {2, 3, 4}) {
      EXPECT_TRUE(equal(on_nccl(size, type, {.deterministic = true}), on_threads(size, type)))
          << type << " in a world of " << size;
    }
  }
}

TEST(NcclCommunicator, SixteenBitFloatsAreRoundedOnce) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    EXPECT_TRUE(equal(on_nccl(4, type, {}), on_threads(4, type))) << type;
  }
}

// Says that the tests above can fail.
TEST(NcclCommunicator, TheDoubleSumsInAnotherOrderByItself) {
  EXPECT_FALSE(equal(on_nccl(4, at::kFloat, {}), on_threads(4, at::kFloat)));
}

/// The exact sums of what sums() adds, and how far the result may be from them: n - 1 additions in
/// float32, and one rounding to the type.
struct Exact {
  at::Tensor sum;
  at::Tensor bound;
};

Exact exact_sums(at::ScalarType type, int size, int64_t count) {
  auto sum = at::zeros({count}, at::kDouble);
  auto magnitude = at::zeros({count}, at::kDouble);
  for (int r = 0; r < size; ++r) {
    const auto values = rough(type, r, count).to(at::kDouble);
    sum += values;
    magnitude += values.abs();
  }
  const double rounding = type == at::kHalf ? 0x1p-11 : 0x1p-8;
  const double least = 0x1p-25;  // half of float16's smallest
  return {sum, sum.abs() * rounding + magnitude * (size * 0x1p-24) + least};
}

TEST(NcclCommunicator, SixteenBitFloatsOfManyRanksAreRoundedOnce) {
  constexpr int kSize = 4;
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    const auto results = on_nccl(kSize, type, {.few_ranks = 2});
    for (int r = 0; r < kSize; ++r) {
      const auto near = [&](const at::Tensor& got, const Exact& exact, int64_t first) {
        const auto error = (got.to(at::kDouble) - exact.sum.narrow(0, first, got.numel())).abs();
        return at::all(error <= exact.bound.narrow(0, first, got.numel())).item<bool>();
      };
      EXPECT_TRUE(near(results[r][0], exact_sums(type, kSize, 101), 0)) << type;
      EXPECT_TRUE(near(results[r][1], exact_sums(type, kSize, 33 * kSize), 33 * r)) << type;
      EXPECT_TRUE(at::equal(results[r][0], results[0][0])) << type;
    }
  }
}

/// Rank r's part of sums that any order makes alike in float32, and no 16-bit float holds on the
/// way: (r + 1) times 1, 2, 4 and 8.
at::Tensor counted(at::ScalarType type, int rank, int64_t parts = 1) {
  return (at::exp2(at::arange(4, at::kFloat)) * (rank + 1)).to(type).repeat({parts});
}

TEST(NcclCommunicator, SixteenBitSumsOfMoreThan64RanksGoByNcclAlone) {
  constexpr int kSize = 66;
  NcclDouble nccl(kSize);
  run_on_double(nccl, kSize, {}, [](Communicator& world) {
    const auto exact = counted(at::kFloat, kSize * (kSize + 1) / 2 - 1);
    for (const auto type : {at::kHalf, at::kBFloat16, at::kShort}) {
      auto all = counted(type, world.rank());
      auto part = at::empty({4}, type);
      world.allreduce(all).wait();
      world.reduce_scatter(part, counted(type, world.rank(), kSize)).wait();
      EXPECT_TRUE(at::equal(all, exact.to(type))) << type;
      EXPECT_TRUE(at::equal(part, exact.to(type))) << type;
    }
    auto large = at::full({3}, 40'000, at::kHalf);
    world.allreduce(large, {.divisor = kSize}).wait();
    EXPECT_EQ(large[2].item<float>(), 40'000);
  });
  for (const auto& operation : nccl.issued(0))
    EXPECT_EQ(operation.find("messages"), operation.npos);
  EXPECT_EQ(nccl.issued(0).size(), 7U);
  expect_clean(nccl);
}

/// Whether the sums of a world go by owners, to whom values are sent.
bool by_owners(int size, at::ScalarType type, const DoubleWorldOptions& options) {
  NcclDouble nccl(size);
  run_on_double(nccl, size, options, [&](Communicator& world) { (void)sums(world, type); });
  const auto issued = nccl.issued(0);
  return std::count(issued.begin(), issued.end(), "messages on 0") == 2;
}

TEST(NcclCommunicator, TheOrderOfRanksIsKeptByOwnersOnAnyNumber) {
  EXPECT_TRUE(by_owners(3, at::kBFloat16, {.few_ranks = 3}));
  EXPECT_FALSE(by_owners(4, at::kBFloat16, {.few_ranks = 3}));
  const DoubleWorldOptions ordered{.deterministic = true, .few_ranks = 3};
  for (const auto type : {at::kHalf, at::kBFloat16, at::kFloat}) {
    EXPECT_TRUE(by_owners(4, type, ordered));
    EXPECT_TRUE(equal(on_nccl(4, type, ordered), on_threads(4, type))) << type;
  }
  EXPECT_FALSE(by_owners(4, at::kShort, ordered));  // its sums depend on no order
}

TEST(NcclCommunicator, SmallIntegersThatNcclLacksAreCombined) {
  for (const int few_ranks : {64, 1}) {
    NcclDouble nccl(3);
    run_on_double(nccl, 3, {.few_ranks = few_ranks}, [](Communicator& world) {
      for (const auto op : {ReduceOp::sum, ReduceOp::minimum, ReduceOp::maximum}) {
        auto values = at::full({5}, 10 - world.rank(), at::kShort);
        world.allreduce(values, op).wait();
        const int wanted = op == ReduceOp::sum ? 27 : op == ReduceOp::minimum ? 8 : 10;
        EXPECT_EQ(values[4].item<int>(), wanted);
      }
      // As everywhere, what does not fit begins anew from below.
      auto large = at::full({2}, 30'000, at::kShort);
      world.allreduce(large).wait();
      EXPECT_EQ(large[1].item<int>(), 90'000 - 65'536);
    });
  }
}

TEST(NcclCommunicator, ThreadsOfARankIssueInOneOrderForAllCommunicators) {
  NcclDouble nccl(3);
  run_on_double(nccl, 3, {}, [](Communicator& world) {
    const auto other = world.split(0, 0);
    std::vector<Work> works;
    auto buffer = at::ones({7});
    auto second = at::ones({7});
    for (int i = 0; i < 20; ++i) {
      works.push_back(world.allreduce(buffer));
      works.push_back(other->broadcast(second, i % 3));
    }
    for (auto& work : works) work.wait();
  });
  EXPECT_EQ(nccl.issued(1), nccl.issued(0));
  EXPECT_EQ(nccl.issued(2), nccl.issued(0));
  expect_clean(nccl);
}

int most_at_once_with_two_communicators(bool serialise) {
  NcclDouble nccl(2);
  SignalFlag started;
  run_on_double(nccl, 2, {.serialise = serialise}, [&](Communicator& world) {
    const auto other = world.split(0, 0);
    auto first = at::ones({4});
    auto second = at::ones({4});
    if (world.rank() == 1) {
      started.await();
      std::this_thread::sleep_for(milliseconds(100));
    }
    auto first_work = world.allreduce(first);
    auto second_work = other->allreduce(second);
    started.raise();
    first_work.wait();
    second_work.wait();
  });
  return nccl.most_at_once(0);
}

TEST(NcclCommunicator, OperationsOfTwoCommunicatorsAreNeverOnTheDeviceTogether) {
  EXPECT_EQ(most_at_once_with_two_communicators(true), 1);
  EXPECT_EQ(most_at_once_with_two_communicators(false), 2);
}

TEST(NcclCommunicator, StartingNeverBlocks) {
  NcclDouble nccl(2, {.answers_in_progress = 20});
  SignalFlag started;
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    auto buffer = at::ones({4});
    if (world.rank() == 1) started.await();
    auto work = world.allreduce(buffer);
    if (world.rank() == 0) {
      EXPECT_FALSE(work.is_completed());
      started.raise();
    }
    work.wait();
    EXPECT_TRUE(work.is_completed());
  });
}

TEST(NcclCommunicator, WaitingOrdersTheCallersStreamAndNotTheHost) {
  NcclDouble nccl(2);
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    CallerStream stream(nccl, world.rank());
    auto buffer = at::zeros({3});
    auto doubled = at::zeros({3});
    SignalFlag waited;
    stream.put([&] {
      waited.await();
      buffer.fill_(1);
    });
    auto work = world.allreduce(buffer);
    work.wait();
    stream.put([&] { doubled.copy_(buffer * 2); });
    waited.raise();
    world.barrier().wait();  // behind all of it
    EXPECT_EQ(doubled[2].item<float>(), 4);
  });
}

TEST(NcclCommunicator, RefusesAStreamThatCapturesAGraphAndGoesOnAfterwards) {
  NcclDouble nccl(2);
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    CallerStream stream(nccl, world.rank());
    auto buffer = at::ones({3});
    stream.capture(true);
    const auto error = error_of<UsageError>([&] { world.allreduce(buffer); });
    expect_contains(error, "allreduce");
    expect_contains(error, "captures a CUDA graph");
    stream.capture(false);
    world.allreduce(buffer).synchronize();
    EXPECT_EQ(buffer[0].item<float>(), 2);
  });
  expect_clean(nccl);
}

TEST(NcclCommunicator, TensorsLiveUntilTheDeviceHasPassedThem) {
  NcclDouble nccl(2);
  std::atomic<bool> freed{false};
  run_on_double(nccl, 2, {}, [&](Communicator& world) {
    if (world.rank() == 1) {
      std::this_thread::sleep_for(milliseconds(50));
      EXPECT_FALSE(freed);
      auto buffer = at::ones({3});
      world.allreduce(buffer).wait();
      return;
    }
    std::vector<float> memory(3, 1);
    const auto release = [&](void*) { freed = true; };
    { const auto dropped = world.allreduce(at::from_blob(memory.data(), {3}, release)); }
    for (int i = 0; i < 5000 && !freed; ++i) std::this_thread::sleep_for(milliseconds(1));
    EXPECT_TRUE(freed);
    EXPECT_EQ(memory[2], 2);
  });
}

TEST(NcclCommunicator, ACommunicatorMayGoBeforeItsLastOperationHasEnded) {
  NcclDouble nccl(2);
  run_on_double(nccl, 2, {}, [](Communicator& world) {
    auto group = world.split(0, 0);
    auto buffer = at::ones({3});
    if (world.rank() == 1) std::this_thread::sleep_for(milliseconds(100));
    auto work = group->allreduce(buffer);
    group.reset();
    work.wait();
    EXPECT_EQ(buffer[0].item<float>(), 2);
  });
  expect_clean(nccl);
}

TEST(NcclCommunicator, RefusesMessages) {
  NcclDouble nccl(2);
  run_on_double(nccl, 2, {}, [](Communicator& world) {
    auto buffer = at::ones({3});
    const int peer = 1 - world.rank();
    const auto error = error_of<UsageError>([&] { (void)world.send(buffer, peer); });
    expect_contains(error, "send #0 to");
    expect_contains(error, "carries collectives only; send a CPU tensor");
    EXPECT_THROW((void)world.receive(buffer, peer), UsageError);
    world.allreduce(buffer).wait();
    EXPECT_EQ(buffer[0].item<float>(), 2);
  });
  expect_clean(nccl);
}

TEST(NcclCommunicator, ATensorOfAnotherDeviceIsRefused) {
  NcclDouble nccl(2);
  run_on_double(nccl, 2, {}, [](Communicator& world) {
    auto elsewhere = at::empty({3}, at::TensorOptions().device(at::kMeta));
    const auto error = error_of<UsageError>([&] { (void)world.allreduce(elsewhere); });
    expect_contains(error, "the tensor is on meta");
  });
}

}  // namespace
}  // namespace isobar::test::nccl_communicator_test
