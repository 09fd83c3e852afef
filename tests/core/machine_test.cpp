// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/machine.hpp>

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace isobar::machine_test {
namespace {

/// The cores that this thread may run on, taken from it and given back.
class Affinity {
 public:
  Affinity() { sched_getaffinity(0, sizeof(before_), &before_); }
  ~Affinity() { sched_setaffinity(0, sizeof(before_), &before_); }
  Affinity(const Affinity&) = delete;
  Affinity& operator=(const Affinity&) = delete;

  int count() const { return CPU_COUNT(&before_); }

  void keep_one() const {
    int first = 0;
    while (!CPU_ISSET(first, &before_)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    sched_setaffinity(0, sizeof(one), &one);
  }

 private:
  cpu_set_t before_{};
};

TEST(Machine, IsNamedAsTheKernelNamesIt) {
  std::string name;
  std::ifstream("/proc/sys/kernel/hostname") >> name;
  EXPECT_EQ(host_name(), name);
}

TEST(Machine, CountsTheCoresThatARankIsBoundTo) {
  const Affinity affinity;
  EXPECT_EQ(usable_cores().own, affinity.count());
  affinity.keep_one();
  EXPECT_EQ(usable_cores().own, 1);
  EXPECT_GE(usable_cores().launcher, 1);
}

TEST(Machine, GivesNoMoreMemoryThanThereIs) {
  EXPECT_GT(machine_memory_bytes(), 0);
  EXPECT_LE(machine_memory_bytes(), sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE));
}

TEST(Machine, CountsHowLongItsThreadWaitsForACore) {
  const auto before = run_delay_s();
  if (!before) GTEST_SKIP() << "this kernel does not count it";
  const Affinity affinity;
  affinity.keep_one();  // for both: threads inherit it
  std::atomic<bool> goes_on{true};
  std::thread other([&] {
    while (goes_on) {
    }
  });
  // Both are always ready to run, so that of one core's time each waits half.
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(400);
  while (std::chrono::steady_clock::now() < until) {
  }
  const auto after = run_delay_s();
  goes_on = false;
  other.join();
  EXPECT_GT(after.value() - *before, 0.1);
}

TEST(Machine, DoesNotCountHowLongOtherThreadsWaitForACore) {
  const auto before = run_delay_s();
  if (!before) GTEST_SKIP() << "this kernel does not count it";
  const Affinity affinity;
  affinity.keep_one();  // for both, which start together and take turns
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i) {
    others.emplace_back([] {
      const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
      while (std::chrono::steady_clock::now() < until) {
      }
    });
  }
  for (auto& other : others) other.join();
  EXPECT_LT(run_delay_s().value() - *before, 0.1) << "this thread has slept";
}

TEST(Machine, CountsTheTimeThatOtherThreadsHaveHad) {
  const auto work = [] {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
    while (std::chrono::steady_clock::now() < until) {
    }
  };
  const double before = other_threads_cpu_s().value();
  work();
  EXPECT_LT(other_threads_cpu_s().value() - before, 0.1) << "its own is not in it";
  std::thread(work).join();
  EXPECT_GT(other_threads_cpu_s().value() - before, 0.05);
}

TEST(Machine, CountsNoQuotaBackwards) {
  const auto before = throttled_s();
  const auto after = throttled_s();
  EXPECT_EQ(before.has_value(), after.has_value());
  EXPECT_GE(after.value_or(0), before.value_or(0));
}

}  // namespace
}  // namespace isobar::machine_test
