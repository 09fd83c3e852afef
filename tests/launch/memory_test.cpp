// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/memory.hpp>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <vector>

#include "launch/scoped_environment.hpp"

namespace isobar::test::memory_test {
namespace {

/// Page faults of this process while a step allocates, writes and frees.
long faults_of_a_step() {
  const auto faults = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
  };
  const long before = faults();
  for (int i = 0; i < 4; ++i) {
    std::vector<char> values(64 << 20);
    EXPECT_EQ(std::count(values.begin(), values.end(), 0), 64 << 20);
  }
  return faults() - before;
}

TEST(Memory, KeepsFreedMemoryForTheNextStep) {
  {
    const ScopedEnvironment said(Variables{{"GLIBC_TUNABLES", "glibc.malloc.check=0"}});
    EXPECT_FALSE(keep_freed_memory()) << "the user has said what malloc does";
  }
  const ScopedEnvironment nothing(Variables{
      {"GLIBC_TUNABLES", ""}, {"MALLOC_MMAP_THRESHOLD_", ""}, {"MALLOC_TRIM_THRESHOLD_", ""}});
  ASSERT_TRUE(keep_freed_memory());
  faults_of_a_step();
  EXPECT_LT(faults_of_a_step(), 1000) << "a step has 65,536 pages of 4 KiB";
}

}  // namespace
}  // namespace isobar::test::memory_test
