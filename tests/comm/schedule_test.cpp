// SPDX-License-Identifier: Apache-2.0
// All ranks of a world in one process: their schedules are carried out by a wire that delivers in
// any order that MPI may, and completes a send no sooner than its receive has been posted.
#include "comm/schedule/schedule.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>

#include "comm/schedule/runner.hpp"
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

  void send(const Message& message, int64_t index) override { begin(sends, message, index); }
  void receive(const Message& message, int64_t index) override { begin(receives, message, index); }

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
  schedule.scratch = std::make_unique<char[]>(8);
  schedule.sends.assign(count, {1, schedule.scratch.get(), 8, 0, 0});
  schedule.receives = schedule.sends;
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
