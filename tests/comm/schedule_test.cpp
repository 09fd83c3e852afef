// SPDX-License-Identifier: Apache-2.0
// All ranks of a world in one process: their schedules are carried out by a wire that delivers in
// any order that MPI may, and completes a send no sooner than its receive has been posted.
#include "comm/schedule/schedule.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>

#include "comm/schedule/runner.hpp"
#include "comm/schedule_cost.hpp"
#include "comm/values.hpp"

namespace isobar::test::schedule_test {
namespace {

/// One rank's end of the wire: messages in [moved, begun) of a direction are on their way; those in
/// [seen, moved) are complete, which the rank has not noticed yet.
class RankWire final : public MessageTransport {
 public:
  struct Side {
    std::vector<Message> begun;
    size_t moved = 0;
    size_t seen = 0;
  };

  RankWire(Schedule schedule, const ScheduleRunner::Limits& limits)
      : runner(std::move(schedule), limits, *this) {}

  void send(const Message& message, int64_t index) override {
    expect_apart(message, receives);
    begin(sends, message, index);
  }
  void receive(const Message& message, int64_t index) override {
    expect_apart(message, sends);
    expect_apart(message, receives);
    begin(receives, message, index);
  }

  /// In any order, as MPI may tell of several at once.
  void notice(std::mt19937& random) {
    for (const bool sent : {true, false}) {
      auto& side = sent ? sends : receives;
      std::vector<int64_t> complete;
      for (; side.seen < side.moved; ++side.seen) complete.push_back(std::ssize(complete));
      for (auto& index : complete) index += static_cast<int64_t>(side.seen - complete.size());
      std::shuffle(complete.begin(), complete.end(), random);
      for (const auto index : complete) sent ? runner.sent(index) : runner.received(index);
    }
  }

  Side sends;
  Side receives;
  ScheduleRunner runner;

 private:
  /// MPI forbids to receive where anything else is under way.
  static void expect_apart(const Message& message, const Side& side) {
    for (size_t i = side.seen; i < side.begun.size(); ++i) {
      const auto& other = side.begun[i];
      EXPECT_TRUE(message.data + message.bytes <= other.data ||
                  other.data + other.bytes <= message.data);
    }
  }

  static void begin(Side& side, const Message& message, int64_t index) {
    ASSERT_EQ(index, std::ssize(side.begun));
    side.begun.push_back(message);
  }
};

/// Matches only the heads of both windows, which is the least that MPI promises.
class Wire {
 public:
  Wire(std::vector<Schedule> schedules, const ScheduleRunner::Limits& limits, uint32_t seed)
      : random_(seed) {
    for (auto& schedule : schedules) {
      ranks_.push_back(std::make_unique<RankWire>(std::move(schedule), limits));
    }
  }

  /// False if nothing can move any more and some messages are left.
  bool run() {
    for (const auto& rank : ranks_) rank->runner.start();
    for (;;) {
      if (random_() % 3 == 0) ranks_[random_() % ranks_.size()]->notice(random_);
      auto ready = deliverable();
      if (ready.empty()) {
        for (const auto& rank : ranks_) rank->notice(random_);
        ready = deliverable();
      }
      if (ready.empty()) break;
      deliver(ready[random_() % ready.size()]);
    }
    return std::all_of(ranks_.begin(), ranks_.end(),
                       [](const auto& rank) { return rank->runner.finished(); });
  }

 private:
  /// Ranks whose next send meets the next receive of its peer.
  std::vector<size_t> deliverable() const {
    std::vector<size_t> all;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      const auto& sends = ranks_[r]->sends;
      if (sends.moved == sends.begun.size()) continue;
      const auto& to = ranks_[sends.begun[sends.moved].peer]->receives;
      if (to.moved == to.begun.size()) continue;
      if (to.begun[to.moved].peer == static_cast<int>(r)) all.push_back(r);
    }
    return all;
  }

  void deliver(size_t r) {
    auto& sends = ranks_[r]->sends;
    const auto& sent = sends.begun[sends.moved++];
    auto& to = ranks_[sent.peer]->receives;
    const auto& received = to.begun[to.moved++];
    ASSERT_EQ(sent.bytes, received.bytes);
    std::copy_n(sent.data, sent.bytes, received.data);
  }

  std::vector<std::unique_ptr<RankWire>> ranks_;
  std::mt19937 random_;
};

/// Runs the operations of all ranks in several orders of delivery.
void carry_out(std::vector<Operation>& operations, MakeSchedule make, const ScheduleTuning& tuning,
               uint32_t seed) {
  std::vector<Schedule> schedules;
  const int size = static_cast<int>(operations.size());
  for (int r = 0; r < size; ++r) schedules.push_back(make(operations[r], r, size, tuning));
  const ScheduleRunner::Limits limits{.window_bytes = tuning.window_bytes, .messages = 3};
  ASSERT_TRUE(Wire(std::move(schedules), limits, seed).run())
      << "stuck, " << size << " ranks, window " << tuning.window_bytes;
}

ScheduleTuning tuning(int64_t segment_bytes, int64_t window_bytes) {
  ScheduleTuning result;
  result.segment_bytes = segment_bytes;
  result.window_bytes = window_bytes;
  return result;
}

const ScheduleTuning kTunings[] = {tuning(16, 1), tuning(16, 16), tuning(16, 64), tuning(40, 4096)};

/// All worlds, sizes and tunings.
template <typename Check>
void for_cases(const Check& check) {
  uint32_t seed = 0;
  for (const int size : {2, 3, 4, 5, 8}) {
    for (const int64_t count : {0, 1, 3, 4, 5, 8, 29, 100}) {
      for (const auto& each : kTunings) check(size, count, each, ++seed);
    }
  }
}

at::Tensor sum_of_ramps(int size, int64_t count) {
  auto sum = ramp(at::kFloat, 0, count);
  for (int r = 1; r < size; ++r) sum += ramp(at::kFloat, r, count);
  return sum;
}

void check_allreduce(MakeSchedule make) {
  for_cases([&](int size, int64_t count, const ScheduleTuning& each, uint32_t seed) {
    std::vector<Operation> operations(size);
    for (int r = 0; r < size; ++r) {
      operations[r].kind = OperationKind::allreduce;
      operations[r].output = ramp(at::kFloat, r, count);
    }
    carry_out(operations, make, each, seed);
    const auto expected = sum_of_ramps(size, count);
    for (const auto& operation : operations) EXPECT_TRUE(at::equal(operation.output, expected));
  });
}

void check_reduce_scatter(MakeSchedule make) {
  for_cases([&](int size, int64_t count, const ScheduleTuning& each, uint32_t seed) {
    std::vector<Operation> operations(size);
    for (int r = 0; r < size; ++r) {
      operations[r].kind = OperationKind::reduce_scatter;
      operations[r].input = ramp(at::kFloat, r, size * count);
      operations[r].output = at::zeros({count});
    }
    carry_out(operations, make, each, seed);
    const auto expected = sum_of_ramps(size, size * count);
    for (int r = 0; r < size; ++r) {
      EXPECT_TRUE(at::equal(operations[r].output, expected.narrow(0, r * count, count)));
      EXPECT_TRUE(at::equal(operations[r].input, ramp(at::kFloat, r, size * count)));
    }
  });
}

TEST(RingSchedule, SumsOverAllRanks) { check_allreduce(ring_schedule); }

TEST(RingSchedule, ScattersSums) { check_reduce_scatter(ring_schedule); }

TEST(RingSchedule, Gathers) {
  for_cases([](int size, int64_t count, const ScheduleTuning& each, uint32_t seed) {
    std::vector<Operation> operations(size);
    std::vector<at::Tensor> all;
    for (int r = 0; r < size; ++r) {
      operations[r].kind = OperationKind::all_gather;
      operations[r].input = ramp(at::kFloat, r, count);
      operations[r].output = at::zeros({size * count});
      all.push_back(operations[r].input);
    }
    carry_out(operations, ring_schedule, each, seed);
    for (const auto& operation : operations) EXPECT_TRUE(at::equal(operation.output, at::cat(all)));
  });
}

TEST(RingSchedule, SendsNoMoreThanARingMust) {
  Operation operation;
  operation.kind = OperationKind::allreduce;
  operation.output = at::zeros({4000});
  int64_t bytes = 0;
  for (const auto& message : ring_schedule(operation, 1, 4, tuning(64, 256)).sends) {
    bytes += message.bytes;
  }
  EXPECT_EQ(bytes, 2 * 3 * 4000);
}

TEST(OwnerSchedule, SumsOverAllRanks) { check_allreduce(owner_schedule); }

TEST(OwnerSchedule, ScattersSums) { check_reduce_scatter(owner_schedule); }

TEST(OwnerSchedule, AddsInTheOrderOfRanks) {
  for (int size = 2; size <= 6; ++size) {
    std::vector<Operation> operations(size);
    for (int r = 0; r < size; ++r) {
      operations[r].kind = OperationKind::allreduce;
      operations[r].output = at::sin(at::arange(500, at::kFloat) * (1 + r));
    }
    auto expected = operations[0].output.clone();
    for (int r = 1; r < size; ++r) expected += operations[r].output;
    carry_out(operations, owner_schedule, tuning(8, 32), 1);
    for (const auto& operation : operations) {
      EXPECT_TRUE(at::equal(operation.output, expected));
    }
  }
}

TEST(OwnerSchedule, SendsTheBytesOfARing) {
  Operation operation;
  operation.kind = OperationKind::allreduce;
  operation.output = at::zeros({4000});
  int64_t bytes = 0;
  for (const auto& message : owner_schedule(operation, 1, 4, tuning(64, 256)).sends) {
    bytes += message.bytes;
  }
  EXPECT_EQ(bytes, 2 * 3 * 4000);
}

/// An allreduce in which rank r has make_values(r).
template <typename MakeValues>
std::vector<Operation> allreduces(int size, const MakeValues& make_values) {
  std::vector<Operation> operations(size);
  for (int r = 0; r < size; ++r) {
    operations[r].kind = OperationKind::allreduce;
    operations[r].output = make_values(r);
  }
  return operations;
}

void expect_everywhere(const std::vector<Operation>& operations, const at::Tensor& expected) {
  for (const auto& operation : operations) {
    EXPECT_TRUE(at::equal(operation.output, expected)) << operations.size() << " ranks";
  }
}

TEST(OwnerSchedule, HasTheSameBitsWithFewOwners) {
  constexpr int kSize = 96;
  auto tuning_of_few = tuning(96, 384);
  tuning_of_few.shortest_segment_bytes = 64;
  auto tuning_of_all = tuning_of_few;
  tuning_of_all.few_ranks = kSize;
  for (const int64_t count : {0, 1, 31, 33, 100, 3100, 10001}) {
    const auto values = [&](int r) {
      return (1e4 * at::sin(at::arange(count, at::kFloat) * (1 + r))).to(at::kHalf);
    };
    auto operations = allreduces(kSize, values);
    auto expected = at::zeros({count});
    for (int r = 0; r < kSize; ++r) expected += values(r).to(at::kFloat);
    expected = (expected / kSize).to(at::kHalf);
    for (const auto& each : {tuning_of_few, tuning_of_all}) {
      for (int r = 0; r < kSize; ++r) operations[r].output = values(r);
      for (auto& operation : operations) operation.divisor = kSize;
      carry_out(operations, owner_schedule, each, 1);
      expect_everywhere(operations, expected);
    }
  }
}

/// The bytes of all messages that any of `size` ranks sends in `operation`.
std::vector<int64_t> message_bytes(MakeSchedule make, const Operation& operation, int size) {
  std::vector<int64_t> all;
  for (int r = 0; r < size; ++r) {
    for (const auto& message : make(operation, r, size, ScheduleTuning()).sends) {
      all.push_back(message.bytes);
    }
  }
  return all;
}

TEST(OwnerSchedule, SendsNoShortMessagesAboveSixtyFourRanks) {
  constexpr int64_t kKilobyte = 1024;
  for (const auto kind : {OperationKind::allreduce, OperationKind::reduce_scatter}) {
    const bool scatters = kind == OperationKind::reduce_scatter;
    for (const int64_t bytes : {17, 16 * 65, 20 * 65, 31 * 65, 48 * 65, 100 * 65}) {
      Operation operation;
      operation.kind = kind;
      operation.input = at::empty({bytes * kKilobyte}, at::kByte);
      operation.output =
          scatters ? at::empty({bytes * kKilobyte / 65}, at::kByte) : operation.input;
      const auto all = message_bytes(owner_schedule, operation, 65);
      const auto [shortest, longest] = std::minmax_element(all.begin(), all.end());
      const auto slice = bytes * kKilobyte / (bytes == 17 && !scatters ? 2 : 65);
      EXPECT_GE(*shortest, std::min(slice, 16 * kKilobyte)) << bytes << " KiB";
      EXPECT_LT(*longest, 32 * kKilobyte);
    }
  }
}

TEST(HalvingSchedule, SumsOverAllRanks) { check_allreduce(halving_schedule); }

constexpr int kManyRanks[] = {65, 66, 96, 127, 128, 200};

/// Rank r has r ((i + 1) 2^36 + 1): sums that no float holds.
TEST(HalvingSchedule, SumsIntegersOverManyRanks) {
  uint32_t seed = 0;
  for (const int size : kManyRanks) {
    for (const int64_t count : {0, 1, 100, 1999}) {
      const auto values = (at::arange(count, at::kLong) + 1) * (int64_t{1} << 36) + 1;
      auto operations = allreduces(size, [&](int r) { return values * r; });
      carry_out(operations, halving_schedule, tuning(200, 512), ++seed);
      expect_everywhere(operations, values * (size * (size - 1) / 2));
    }
  }
}

/// Random values: every rank has the bits of rank 0, which are as near to the sum in float64 as a
/// tree of so many levels must be.
void check_random(int size, int64_t count) {
  at::manual_seed(size);
  auto operations = allreduces(size, [&](int) { return at::randn({count}); });
  auto sum = at::zeros({count}, at::kDouble);
  auto absolute = at::zeros({count}, at::kDouble);
  for (const auto& operation : operations) {
    sum += operation.output;
    absolute += operation.output.abs();
  }
  carry_out(operations, halving_schedule, tuning(1024, 8192), 1);
  expect_everywhere(operations, operations[0].output);
  const auto levels = std::ceil(std::log2(size));
  const auto bound = absolute * (levels * std::numeric_limits<float>::epsilon() / 2 * 1.001);
  EXPECT_TRUE(((operations[0].output - sum).abs() <= bound).all().item<bool>()) << size << " ranks";
}

TEST(HalvingSchedule, GivesManyRanksTheSameBits) {
  for (const int size : kManyRanks) check_random(size, 3001);
}

TEST(HalvingSchedule, SumsOverTwoThousandRanks) {
  check_random(2048, 1500);  // some ranks sum nothing
}

TEST(HalvingSchedule, FindsAnyMaximum) {
  auto operations = allreduces(66, [](int r) {
    auto values = at::full({66}, -1.0F);
    values[(7 * r) % 66] = static_cast<float>(r);
    return values;
  });
  for (auto& operation : operations) operation.reduce = ReduceOp::maximum;
  carry_out(operations, halving_schedule, tuning(16, 64), 1);
  auto expected = at::zeros({66});
  for (int r = 0; r < 66; ++r) expected[(7 * r) % 66] = static_cast<float>(r);
  expect_everywhere(operations, expected);
}

TEST(HalvingSchedule, LeavesANodeWithTheBytesOfARing) {
  constexpr int kNode = 8;
  Operation operation;
  operation.kind = OperationKind::allreduce;
  operation.output = at::empty({1 << 20}, at::kByte);
  int64_t leaves = 0;
  for (int r = 0; r < kNode; ++r) {
    for (const auto& message : halving_schedule(operation, r, 128, ScheduleTuning()).sends) {
      if (message.peer >= kNode) leaves += message.bytes;
    }
  }
  EXPECT_EQ(leaves, 2 * (1 << 20) * 15 / 16);
}

TEST(SumSchedule, HasNoHalvingUpToSixtyFourRanks) {
  const ScheduleTuning tuning;
  for (const int size : {2, 3, 63, 64}) {
    for (const auto kind : {OperationKind::allreduce, OperationKind::reduce_scatter}) {
      const auto most = tuning.owner_bytes_each_rank * size;
      EXPECT_EQ(sum_schedule(kind, most, size, tuning), owner_schedule);
      EXPECT_EQ(sum_schedule(kind, most + 1, size, tuning), ring_schedule);
    }
  }
}

TEST(SumSchedule, GoesInARingOverManyRanksOnlyWhereItsStepsAreLong) {
  const auto choice = [](int64_t bytes, int size) {
    return sum_schedule(OperationKind::allreduce, bytes, size, ScheduleTuning());
  };
  constexpr int64_t kStep = 128 << 10;
  for (const int size : {65, 96, 127, 200, 1000, 3000}) {
    for (const int64_t bytes : {int64_t{4}, kStep, kStep * size}) {
      EXPECT_EQ(choice(bytes, size), halving_schedule);
    }
    EXPECT_EQ(choice(kStep * size + 1, size), ring_schedule);
  }
  for (const int size : {128, 256, 2048, 4096}) {
    for (const int64_t bytes : {int64_t{4}, int64_t{1} << 33}) {
      EXPECT_EQ(choice(bytes, size), halving_schedule);
    }
  }
}

// docs/results/scale.md has these numbers.
TEST(SumSchedule, TakesFewStepsAndMessagesOnThousandsOfRanks) {
  Operation bucket;
  bucket.kind = OperationKind::allreduce;
  bucket.output = at::empty({25 << 20}, at::kByte);
  struct {
    MakeSchedule make;
    int ranks;
    ScheduleCost cost;
  } const all[] = {
      {ring_schedule, 64, {126, 1008, 51'609'600}},
      {ring_schedule, 256, {510, 3570, 52'224'000}},
      {owner_schedule, 64, {51, 12'474, 51'609'600}},
      {owner_schedule, 256, {4, 3060, 52'224'000}},
      {owner_schedule, 2048, {2, 3646, 59'736'064}},
      {halving_schedule, 64, {12, 846, 51'609'600}},
      {halving_schedule, 256, {16, 858, 52'224'000}},
      {halving_schedule, 1000, {20, 1287, 78'540'800}},
      {halving_schedule, 1024, {20, 862, 52'377'600}},
      {halving_schedule, 2048, {22, 864, 52'403'200}},
      {halving_schedule, 4096, {24, 866, 52'416'000}},
  };
  for (const auto& [make, ranks, cost] : all) {
    EXPECT_EQ(cost_of(make, bucket, ranks), cost) << ranks << " ranks";
  }
  EXPECT_EQ(cost_of_even_ring(bucket, 256), cost_of(ring_schedule, bucket, 256));
  EXPECT_EQ(cost_of_even_ring(bucket, 1024), (ScheduleCost{2046, 4092, 52'377'600}));
  EXPECT_EQ(cost_of_even_ring(bucket, 2048), (ScheduleCost{4094, 4094, 52'403'200}));
  EXPECT_EQ(cost_of_even_ring(bucket, 4096), (ScheduleCost{8190, 8190, 52'416'000}));
}

TEST(ExchangeSchedule, MovesUnequalParts) {
  for_cases([](int size, int64_t count, const ScheduleTuning& each, uint32_t seed) {
    const auto rows = [&](int from, int to) { return (from + 2 * to) % 3 * count; };
    std::vector<Operation> operations(size);
    std::vector<std::vector<at::Tensor>> expected(size);
    for (int r = 0; r < size; ++r) {
      std::vector<at::Tensor> sent;
      for (int p = 0; p < size; ++p) {
        operations[r].input_rows.push_back(rows(r, p));
        operations[r].output_rows.push_back(rows(p, r));
        sent.push_back(ramp(at::kFloat, r, rows(r, p), 100 * p));
        expected[r].push_back(ramp(at::kFloat, p, rows(p, r), 100 * r));
      }
      operations[r].kind = OperationKind::all_to_all;
      operations[r].input = at::cat(sent);
      operations[r].output = at::zeros_like(at::cat(expected[r]));
    }
    carry_out(operations, exchange_schedule, each, seed);
    for (int r = 0; r < size; ++r) {
      EXPECT_TRUE(at::equal(operations[r].output, at::cat(expected[r])));
    }
  });
}

TEST(ChainSchedule, CopiesTheRootsBuffer) {
  for_cases([](int size, int64_t count, const ScheduleTuning& each, uint32_t seed) {
    const int root = static_cast<int>(seed) % size;
    std::vector<Operation> operations(size);
    for (int r = 0; r < size; ++r) {
      operations[r].kind = OperationKind::broadcast;
      operations[r].peer = root;
      operations[r].output = ramp(at::kFloat, r, count);
    }
    carry_out(operations, chain_schedule, each, seed);
    for (const auto& operation : operations) {
      EXPECT_TRUE(at::equal(operation.output, ramp(at::kFloat, root, count)));
    }
  });
}

/// A schedule of `count` sends of 8 bytes each, and of as many receives.
Schedule messages_of_8_bytes(size_t count) {
  Schedule schedule;
  schedule.scratch = std::make_unique<char[]>(16 * count);
  auto* next = schedule.scratch.get();
  for (auto* messages : {&schedule.sends, &schedule.receives}) {
    for (size_t i = 0; i < count; ++i, next += 8) messages->push_back({1, next, 8, 0, 0});
  }
  return schedule;
}

TEST(ScheduleRunner, HoldsItsWindowInEachDirection) {
  const ScheduleRunner::Limits two_by_bytes{.window_bytes = 16};
  const ScheduleRunner::Limits two_by_number{.window_bytes = 100, .messages = 2};
  for (const auto& limits : {two_by_bytes, two_by_number}) {
    RankWire rank(messages_of_8_bytes(5), limits);
    rank.runner.start();
    EXPECT_EQ(rank.sends.begun.size(), 2U);
    EXPECT_EQ(rank.receives.begun.size(), 2U);
    rank.runner.sent(1);  // the older one keeps its room
    EXPECT_EQ(rank.sends.begun.size(), limits.window_bytes == 16 ? 3U : 2U);
    rank.runner.sent(0);
    EXPECT_EQ(rank.sends.begun.size(), 4U);
    EXPECT_EQ(rank.receives.begun.size(), 2U);
  }
}

TEST(ScheduleRunner, ChecksWhatHasArrivedBeforeItGoesOn) {
  auto schedule = messages_of_8_bytes(3);
  schedule.check = {.when_arrived = 1, .run = [] { throw CommError("wrong"); }};
  for (auto& message : schedule.sends) message.after_arrived = 1;
  RankWire rank(std::move(schedule), {.window_bytes = 8});
  rank.runner.start();
  EXPECT_THROW(rank.runner.received(0), CommError);
  EXPECT_TRUE(rank.sends.begun.empty());
  EXPECT_EQ(rank.receives.begun.size(), 1U);
}

TEST(ScheduleRunner, BeginsNothingAfterAFailedCheck) {
  auto schedule = messages_of_8_bytes(3);
  schedule.check = {.when_arrived = 1, .run = [] { throw CommError("wrong"); }};
  RankWire rank(std::move(schedule), {.window_bytes = 8});
  rank.runner.start();
  EXPECT_THROW(rank.runner.received(0), CommError);
  EXPECT_THROW(rank.runner.sent(0), CommError);  // another thread's, which has not heard of it
  EXPECT_EQ(rank.sends.begun.size(), 1U);
  EXPECT_EQ(rank.receives.begun.size(), 1U);
}

}  // namespace
}  // namespace isobar::test::schedule_test
