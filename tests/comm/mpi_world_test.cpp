// SPDX-License-Identifier: Apache-2.0
// Started by mpirun with one to four ranks; every rank runs the same tests in the same order.
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "comm/expect_error.hpp"
#include "comm/mpi_task.hpp"
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

TEST(MpiCounts, RefuseWhatMpiCannotCount) {
  Operation operation;
  operation.kind = OperationKind::all_gather;
  operation.input = at::empty({0}, at::kByte).expand({1, 0});
  operation.output = at::zeros({1}, at::kByte).expand({int64_t{1} << 31});
  expect_contains(error_of<UsageError>([&] { check_counts(operation, 2); }),
                  "MPI counts to 2147483647");
  operation.kind = OperationKind::broadcast;
  check_counts(operation, 2);
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
