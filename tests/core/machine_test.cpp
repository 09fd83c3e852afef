// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/machine.hpp>

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <string>

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

}  // namespace
}  // namespace isobar::machine_test
