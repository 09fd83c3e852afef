// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/measure.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/stopwatch.hpp>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>

#include "bench/cpu_meter.hpp"

namespace isobar::bench::measure_test {
namespace {

using namespace std::chrono_literals;

/// A subject that works as another does, but for what a test puts behind its waits.
class Altered final : public Subject {
 public:
  using After = std::function<void(const std::vector<Buffers>&, int wait)>;

  Altered(std::unique_ptr<Subject> subject, After after)
      : subject_(std::move(subject)), after_(std::move(after)) {}

  std::string backend() const override { return subject_->backend(); }
  int rank() const override { return subject_->rank(); }
  int size() const override { return subject_->size(); }
  std::vector<std::string> gather(const std::string& text) override {
    return subject_->gather(text);
  }
  void barrier() override { subject_->barrier(); }
  void start(const std::vector<Buffers>& flight) override {
    flight_ = flight;
    subject_->start(flight);
  }
  void wait() override {
    subject_->wait();
    after_(flight_, waits_++);
  }

 private:
  std::unique_ptr<Subject> subject_;
  After after_;
  std::vector<Buffers> flight_;
  int waits_ = 0;
};

const MeasureOptions kShort{.in_flight = 2, .warmup = 1, .repeats = 4};
/// One for the first check, one to warm up and four repeats come before the last check.
constexpr int kLastCheck = 6;

/// What rank 0 measures where `after` runs on rank 1.
Measurement measure_altered(const Altered::After& after) {
  Measurement result;
  run_ranks(2, [&](Communicator& comm) {
    Altered subject(
        make_communicator_subject(comm, Collective::allreduce),
        comm.rank() == 1 ? after : [](const auto&, int) {});
    const auto own = measure(subject, kShort, 4096);
    if (comm.rank() == 0) result = own;
  });
  return result;
}

TEST(Measure, FindsAllResultsRight) {
  const auto result = measure_altered([](const auto&, int) {});
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.bytes, 4096);
  EXPECT_EQ(result.seconds.count, 4u);
  EXPECT_GT(result.seconds.minimum, 0);
}

TEST(Measure, ReportsOnEveryRankWhatIsWrongOnOne) {
  const auto spoil = [](const std::vector<Buffers>& flight, int) {
    flight[1].output.narrow(0, 100, 1).sub_(3);
  };
  EXPECT_EQ(measure_altered(spoil).error, 3);
}

TEST(Measure, ChecksOnceMoreAfterTheTiming) {
  const auto spoil_the_last = [](const std::vector<Buffers>& flight, int wait) {
    if (wait == kLastCheck) flight[0].output.narrow(0, 0, 1).add_(2);
  };
  EXPECT_EQ(measure_altered(spoil_the_last).error, 2);
}

TEST(Measure, TakesTheSlowestRank) {
  const auto sleep = [](const auto&, int) { std::this_thread::sleep_for(10ms); };
  const auto result = measure_altered(sleep);
  EXPECT_GE(result.seconds.minimum, 0.005);  // 10 ms shared by two in flight
}

TEST(Measure, ChoosesRepeatsThatTakeASecond) {
  EXPECT_EQ(choose_repeats(0.02), 50);
  EXPECT_EQ(choose_repeats(5), 10);
  EXPECT_EQ(choose_repeats(1e-6), 1000);
}

TEST(Measure, GivesTheBandwidthInGigabits) {
  EXPECT_DOUBLE_EQ(algbw_gbit_s(125'000'000, 1), 1);
  EXPECT_DOUBLE_EQ(algbw_gbit_s(125'000'000, 0.5), 2);
}

void burn(double seconds) {
  for (const Stopwatch watch; watch.elapsed_s() < seconds;) {
  }
}

TEST(CpuMeter, TellsTheCallerFromTheOtherThreads) {
  CpuMeter meter;
  std::thread before([] { burn(0.02); });
  before.join();
  meter.resume();
  burn(0.05);
  std::thread other([] { burn(0.1); });
  other.join();
  meter.pause();
  // Burning by the clock takes less CPU time where the machine is busy, never more.
  EXPECT_LE(meter.other_threads_s(), 0.11);
  EXPECT_GT(meter.other_threads_s(), 0);
  EXPECT_GT(meter.process_s(), meter.other_threads_s());
  EXPECT_GE(meter.wall_s(), 0.15);
}

TEST(CpuMeter, ReadsTheMachinesSoftirqTime) { EXPECT_GE(machine_softirq_s(), 0); }

}  // namespace
}  // namespace isobar::bench::measure_test
