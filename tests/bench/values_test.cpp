// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/values.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>

namespace isobar::bench::values_test {
namespace {

constexpr std::array kAll{Collective::allreduce,   Collective::reduce_scatter,
                          Collective::all_gather,  Collective::all_to_all,
                          Collective::broadcast,   Collective::barrier,
                          Collective::send_receive};
constexpr int64_t kBytes = 4000;

/// Runs `op` for `round`, lets `spoil` do its work on rank 1, and returns its deviation there.
double deviation_on_rank_1(Collective op, int round,
                           const std::function<void(const Buffers&)>& spoil) {
  double found = -1;
  run_ranks(3, [&](Communicator& comm) {
    const ExactValues values(op, at::kFloat, comm.rank(), comm.size());
    const auto buffers = values.make_buffers(kBytes, at::kCPU);
    values.fill(buffers, 1);
    const auto subject = make_communicator_subject(comm, op);
    subject->start({buffers});
    subject->wait();
    if (comm.rank() != 1) return;
    spoil(buffers);
    found = values.deviation(buffers, round);
  });
  return found;
}

void leave(const Buffers&) {}

TEST(ExactValues, AgreeWithEveryCollectiveInEveryType) {
  for (const char* type : {"float32", "float64", "bfloat16", "float16", "int32", "int64"}) {
    for (const int size : {1, 2, 3, 4}) {
      run_ranks(size, [&](Communicator& comm) {
        for (const auto op : kAll) {
          const ExactValues values(op, parse_type(type), comm.rank(), size);
          const auto buffers = values.make_buffers(1000, at::kCPU);
          values.fill(buffers, 5);
          const auto subject = make_communicator_subject(comm, op);
          subject->start({buffers});
          subject->wait();
          EXPECT_EQ(values.deviation(buffers, 5), 0) << to_string(op) << " of " << type;
        }
      });
    }
  }
}

TEST(ExactValues, ShowOneWrongElement) {
  const auto off_by_one = [](const Buffers& b) { b.output.narrow(0, 17, 1).add_(1); };
  for (const auto op : kAll) {
    if (op == Collective::barrier) continue;
    EXPECT_EQ(deviation_on_rank_1(op, 1, leave), 0) << to_string(op);
    EXPECT_EQ(deviation_on_rank_1(op, 1, off_by_one), 1) << to_string(op);
  }
}

TEST(ExactValues, ShowTheResultOfAnEarlierRound) {
  for (const auto op : kAll) {
    if (op == Collective::barrier) continue;
    EXPECT_GT(deviation_on_rank_1(op, 2, leave), 0) << to_string(op);
  }
}

TEST(ExactValues, ShowBlocksInEachOthersPlaces) {
  const auto swap = [](const Buffers& b) {
    const auto part = b.output.numel() / 3;
    const auto first = b.output.narrow(0, 0, part).clone();
    b.output.narrow(0, 0, part).copy_(b.output.narrow(0, part, part));
    b.output.narrow(0, part, part).copy_(first);
  };
  for (const auto op : {Collective::allreduce, Collective::all_gather, Collective::all_to_all}) {
    EXPECT_GT(deviation_on_rank_1(op, 1, swap), 0) << to_string(op);
  }
}

TEST(ExactValues, ShowAnOutputThatNothingWasWrittenTo) {
  const ExactValues values(Collective::all_gather, at::kFloat, 0, 1);
  const auto buffers = values.make_buffers(kBytes, at::kCPU);
  values.fill(buffers, 1);
  buffers.output.copy_(buffers.input);
  EXPECT_EQ(values.deviation(buffers, 1), 0);
  values.fill(buffers, 1);
  EXPECT_GT(values.deviation(buffers, 1), 0);
}

TEST(ExactValues, CountNotANumberAsTheLargestDeviation) {
  const auto spoil = [](const Buffers& b) { b.output.narrow(0, 3, 1).fill_(NAN); };
  EXPECT_EQ(deviation_on_rank_1(Collective::allreduce, 1, spoil),
            std::numeric_limits<double>::max());
}

TEST(ExactValues, SuggestAType) {
  EXPECT_EQ(parse_type("bfloat16"), at::kBFloat16);
  EXPECT_THROW((void)parse_type("float"), UsageError);
}

}  // namespace
}  // namespace isobar::bench::values_test
