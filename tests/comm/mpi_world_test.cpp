// SPDX-License-Identifier: Apache-2.0
// Started by mpirun with one to five ranks; every rank runs the same tests in the same order.
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <future>
#include <string>

#include "comm/expect_error.hpp"
#include "comm/mpi/communicator.hpp"
#include "comm/mpi/library.hpp"
#include "comm/scenarios.hpp"

namespace isobar::test {
namespace {

using namespace std::chrono_literals;

/// The world of this process; main() makes and destroys it.
std::unique_ptr<Communicator> world;

class OnMpi : public testing::TestWithParam<Scenario> {};

TEST_P(OnMpi, BehavesAsEveryBackend) { GetParam().run(*world); }

INSTANTIATE_TEST_SUITE_P(World, OnMpi, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MpiWorld, IsNamed) { EXPECT_EQ(world->backend(), "mpi"); }

TEST(MpiWorld, LivesBesideAnotherWorld) {
  const auto other = make_mpi_communicator(20s);
  auto in_other = at::ones({5});
  auto in_world = at::ones({5});
  auto other_work = other->allreduce(in_other);
  auto world_work = world->allreduce(in_world, ReduceOp::maximum);
  world_work.wait();
  other_work.wait();
  EXPECT_EQ(in_other[0].item<float>(), world->size());
  EXPECT_EQ(in_world[0].item<float>(), 1);
}

TEST(MpiWorld, SumsSixteenBitFloatsInFloat32) {
  if (world->size() != 4) return;
  auto buffer = at::full({1}, world->rank() == 0 ? 256.0F : 1.0F).to(at::kBFloat16);
  world->allreduce(buffer).wait();
  EXPECT_EQ(buffer.item<float>(), 260.0F);
}

TEST(MpiWorld, CarriesLargeBuffers) {
  const int64_t count = 3'000'001;
  auto buffer = at::full({count}, 1.0F + static_cast<float>(world->rank()));
  world->allreduce(buffer).wait();
  const auto sum = static_cast<float>(world->size() * (world->size() + 1) / 2);
  EXPECT_TRUE(at::equal(buffer, at::full({count}, sum)));
}

TEST(MpiPieces, CoverTheBufferInOrder) {
  using Pieces = std::vector<std::pair<int64_t, int>>;
  EXPECT_EQ(pieces(0, 4), (Pieces{{0, 0}}));
  EXPECT_EQ(pieces(4, 4), (Pieces{{0, 4}}));
  EXPECT_EQ(pieces(9, 4), (Pieces{{0, 4}, {4, 4}, {8, 1}}));
}

/// Little messages, so that buffers of a few elements pass every switch point.
MpiOptions in_little_messages(int64_t segment_bytes = 128, int few_ranks = 64) {
  ScheduleTuning tuning;
  tuning.small_bytes = 64;
  tuning.small_bytes_each_rank = 0;
  tuning.owner_bytes_each_rank = 512;
  tuning.few_ranks = few_ranks;
  tuning.halving_bytes_each_rank = 1024;
  tuning.segment_bytes = segment_bytes;
  tuning.shortest_segment_bytes = 32;
  tuning.window_bytes = 512;
  MpiOptions options;
  options.timeout = 20s;
  options.tuning = tuning;
  return options;
}

TEST(MpiSizes, AreRightAroundEverySwitchPoint) {
  for (const int few_ranks : {64, 1}) {
    const auto comm = make_mpi_communicator(in_little_messages(128, few_ranks));
    check_sizes(*comm, {0,  1,   2,   7,   8,   9,   15,  16,  17,  31,  32,  33,  63,   64,
                        65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 640, 769, 1021, 1281});
  }
}

TEST(MpiSizes, AreRightAroundTheRealOnes) {
  MpiOptions options;
  options.timeout = 20s;
  options.tuning.emplace();
  const auto tuning = *options.tuning;
  const auto comm = make_mpi_communicator(options);
  std::vector<int64_t> counts;
  for (const auto bytes :
       {tuning.small_bytes, tuning.owner_bytes_each_rank,
        tuning.owner_bytes_each_rank * world->size(), tuning.segment_bytes, tuning.window_bytes}) {
    for (const int64_t more : {-1, 0, 1}) counts.push_back(bytes / 4 + more);
  }
  for (const auto count : counts) {
    auto buffer = at::full({count}, 1.0F + static_cast<float>(world->rank()));
    comm->allreduce(buffer).wait();
    EXPECT_TRUE(at::equal(buffer, at::full({count}, world->size() * (world->size() + 1) / 2.0F)));
  }
}

TEST(MpiBits, AreThoseOfThreadsWhateverTheMessages) {
  for (const int64_t segment : {16, 200, 128 << 10}) {
    for (const int few_ranks : {64, 1}) {
      auto options = in_little_messages(segment, few_ranks);
      options.deterministic = true;
      check_bits(*make_mpi_communicator(options), {1, 2, 3, 5, 64, 1000, 1001});
    }
  }
}

TEST(MpiBits, AreInheritedByGroups) {
  auto options = in_little_messages();
  options.deterministic = true;
  const auto comm = make_mpi_communicator(options);
  check_bits(*comm->split(0, comm->rank()), {3, 1000});
}

TEST(MpiBits, AreThoseOfThreadsForSixteenBitsAlways) {
  const auto comm = make_mpi_communicator(in_little_messages());
  auto buffer = at::sin(at::arange(5000, at::kFloat) * (1 + comm->rank())).to(at::kBFloat16);
  comm->allreduce(buffer).wait();
  auto expected = at::sin(at::arange(5000, at::kFloat)).to(at::kBFloat16).to(at::kFloat);
  for (int r = 1; r < comm->size(); ++r) {
    expected += at::sin(at::arange(5000, at::kFloat) * (1 + r)).to(at::kBFloat16).to(at::kFloat);
  }
  EXPECT_TRUE(at::equal(buffer, expected.to(at::kBFloat16)));
}

TEST(MpiGroups, AreMadeByTwoThreadsInAnyOrder) {
  const auto one = make_mpi_communicator(20s);
  const auto other = make_mpi_communicator(20s);
  const auto split_often = [](Communicator& comm) {
    for (int i = 0; i < 20; ++i) {
      const auto group = comm.split(comm.rank() % 2, 0);
      auto buffer = at::ones({3});
      group->allreduce(buffer).wait();
      if (buffer[0].item<float>() != static_cast<float>(group->size())) throw CommError("sum");
    }
  };
  const bool swapped = world->rank() % 2 == 1;
  auto beside = std::async(std::launch::async, split_often, std::ref(swapped ? *other : *one));
  split_often(swapped ? *one : *other);
  EXPECT_NO_THROW(beside.get());
}

TEST(MpiStreams, OfSeveralCommunicatorsAreInFlightTogether) {
  const auto options = in_little_messages();
  std::vector<std::unique_ptr<Communicator>> comms;
  for (int i = 0; i < 3; ++i) comms.push_back(make_mpi_communicator(options));
  std::vector<at::Tensor> buffers;
  std::vector<Work> works;
  for (int i = 0; i < 60; ++i) {
    // Each rank issues those of different communicators in another order.
    const auto& comm = comms[(i + world->rank()) % 3];
    buffers.push_back(at::full({100 + 40 * (i / 3)}, 1.0F));
    works.push_back(comm->allreduce(buffers.back()));
  }
  for (int i = 59; i >= 0; --i) works[i].wait();
  for (const auto& buffer : buffers) {
    EXPECT_TRUE(at::equal(buffer, at::full_like(buffer, static_cast<float>(world->size()))));
  }
}

TEST(MpiStreams, MayBeDropped) {
  const auto comm = make_mpi_communicator(in_little_messages());
  for (int i = 0; i < 20; ++i) {
    [[maybe_unused]] const auto dropped = comm->allreduce(at::ones({1000}));
  }
  auto buffer = at::ones({1000});
  comm->allreduce(buffer).wait();
  EXPECT_EQ(buffer[999].item<float>(), comm->size());
}

TEST(MpiGather, GivesTheTextsInTheOrderOfRanks) {
  const auto texts = mpi_gather("rank " + std::to_string(world->rank()), 20s);
  ASSERT_EQ(std::ssize(texts), world->size());
  for (int r = 0; r < world->size(); ++r) EXPECT_EQ(texts[r], "rank " + std::to_string(r));
}

/// Ranks other than the first print what fails on them and nothing else.
class FailurePrinter : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::printf("rank %d: %s:%d: %s\n", world->rank(),
                result.file_name() ? result.file_name() : "?", result.line_number(),
                result.message());
  }
};

void print_once() {
  if (world->rank() == 0) return;
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new FailurePrinter);
}

/// The worst of all ranks' results.
int64_t agreed(int64_t result) {
  auto buffer = at::full({1}, result, at::kLong);
  world->allreduce(buffer, ReduceOp::maximum).wait();
  return buffer.item<int64_t>();
}

int run_tests() {
  world = make_communicator({.backend = "mpi", .timeout = 20s});
  print_once();
  const auto result = agreed(RUN_ALL_TESTS());
  world.reset();
  return static_cast<int>(result);
}

}  // namespace
}  // namespace isobar::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return isobar::test::run_tests();
}
