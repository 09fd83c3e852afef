// SPDX-License-Identifier: Apache-2.0
// All ranks of a world in one process: their schedules are carried out by a wire that delivers in
// any order that MPI may, and completes a send no sooner than its receive has been posted.
#include "comm/schedule/schedule.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <random>

#include "comm/values.hpp"

namespace isobar::test::schedule_test {
namespace {

using MakeSchedule = Schedule (*)(const Operation&, int, int, const ScheduleTuning&);

/// One direction of one rank: messages in [moved, posted) are on their way, those in [done, moved)
/// are complete, which the rank has not noticed yet.
struct Side {
  size_t posted = 0;
  size_t moved = 0;
  size_t done = 0;
  int64_t bytes = 0;
};

/// Matches only the heads of both windows, which is the least that MPI promises.
class Wire {
 public:
  Wire(std::vector<Schedule> schedules, int64_t window_bytes, uint32_t seed)
      : schedules_(std::move(schedules)),
        window_bytes_(window_bytes),
        sends_(schedules_.size()),
        receives_(schedules_.size()),
        combined_(schedules_.size(), 0),
        random_(seed) {}

  /// False if nothing can move any more and some messages are left.
  bool run() {
    for (;;) {
      if (random_() % 3 == 0) notice(random_() % schedules_.size());
      auto ready = deliverable();
      if (ready.empty()) {
        for (size_t r = 0; r < schedules_.size(); ++r) notice(r);
        ready = deliverable();
      }
      if (ready.empty()) break;
      deliver(ready[random_() % ready.size()]);
    }
    for (size_t r = 0; r < schedules_.size(); ++r) {
      if (sends_[r].done < schedules_[r].sends.size()) return false;
      if (receives_[r].done < schedules_[r].receives.size()) return false;
    }
    return true;
  }

 private:
  void notice(size_t r) {
    auto& schedule = schedules_[r];
    end(sends_[r], schedule.sends);
    end(receives_[r], schedule.receives);
    combined_[r] = combine_arrived(schedule, combined_[r], static_cast<int64_t>(receives_[r].done));
    post(receives_[r], schedule.receives, r);
    post(sends_[r], schedule.sends, r);
  }

  static void end(Side& side, const std::vector<Message>& messages) {
    for (; side.done < side.moved; ++side.done) side.bytes -= messages[side.done].bytes;
  }

  void post(Side& side, const std::vector<Message>& messages, size_t r) {
    while (side.posted < messages.size()) {
      const auto& next = messages[side.posted];
      if (next.after_arrived > static_cast<int64_t>(receives_[r].done)) return;
      if (next.after_sent > static_cast<int64_t>(sends_[r].done)) return;
      if (side.posted > side.done && side.bytes + next.bytes > window_bytes_) return;
      side.bytes += next.bytes;
      ++side.posted;
    }
  }

  /// Ranks whose next send meets the next receive of its peer.
  std::vector<size_t> deliverable() const {
    std::vector<size_t> all;
    for (size_t r = 0; r < schedules_.size(); ++r) {
      if (sends_[r].moved == sends_[r].posted) continue;
      const size_t peer = schedules_[r].sends[sends_[r].moved].peer;
      const auto& to = receives_[peer];
      if (to.moved == to.posted) continue;
      if (schedules_[peer].receives[to.moved].peer == static_cast<int>(r)) all.push_back(r);
    }
    return all;
  }

  void deliver(size_t r) {
    const auto& sent = schedules_[r].sends[sends_[r].moved++];
    auto& to = receives_[sent.peer];
    const auto& received = schedules_[sent.peer].receives[to.moved++];
    ASSERT_EQ(sent.bytes, received.bytes);
    std::copy_n(sent.data, sent.bytes, received.data);
  }

  std::vector<Schedule> schedules_;
  int64_t window_bytes_;
  std::vector<Side> sends_;
  std::vector<Side> receives_;
  std::vector<size_t> combined_;
  std::mt19937 random_;
};

/// Runs the operations of all ranks in several orders of delivery.
void carry_out(std::vector<Operation>& operations, MakeSchedule make, const ScheduleTuning& tuning,
               uint32_t seed) {
  std::vector<Schedule> schedules;
  const int size = static_cast<int>(operations.size());
  for (int r = 0; r < size; ++r) schedules.push_back(make(operations[r], r, size, tuning));
  ASSERT_TRUE(Wire(std::move(schedules), tuning.window_bytes, seed).run())
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

}  // namespace
}  // namespace isobar::test::schedule_test
