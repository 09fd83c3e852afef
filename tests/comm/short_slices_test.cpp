// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/short_slices.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace isobar::short_slices_test {
namespace {

uint64_t slice_of_a_new_thread() {
  uint64_t slice_ns = 0;
  std::thread([&] { slice_ns = thread_slice_ns(); }).join();
  return slice_ns;
}

TEST(ShortSlices, AreInheritedByThreadsAndGivenBack) {
  const auto before_ns = thread_slice_ns();
  if (before_ns == 0) GTEST_SKIP() << "this Linux has no slices of threads (they came with 6.12)";
  {
    const ShortSlices slices;
    EXPECT_EQ(thread_slice_ns(), 100'000u);
    EXPECT_EQ(slice_of_a_new_thread(), 100'000u);
    { const ShortSlices again; }
    EXPECT_EQ(thread_slice_ns(), 100'000u);
  }
  EXPECT_EQ(thread_slice_ns(), before_ns);
  EXPECT_EQ(slice_of_a_new_thread(), before_ns);
}

}  // namespace
}  // namespace isobar::short_slices_test
