// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/job_queue.hpp"

#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <vector>

namespace isobar::test::job_queue_test {
namespace {

TEST(JobQueue, DoesTheJobsInTheirOrder) {
  std::vector<int> done;
  {
    JobQueue queue(1);
    for (int i = 0; i < 100; ++i) queue.add([&done, i] { done.push_back(i); });
  }
  ASSERT_EQ(done.size(), 100);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(done[i], i);
}

TEST(JobQueue, WithSeveralThreadsBeginsAJobWhileOthersWait) {
  JobQueue queue(3);
  std::promise<void> last;
  std::promise<void> second;
  auto last_done = last.get_future().share();
  auto second_done = second.get_future().share();
  queue.add([=] { second_done.wait(); });
  queue.add([&second, last_done] {
    last_done.wait();
    second.set_value();
  });
  queue.add([&last] { last.set_value(); });
  EXPECT_EQ(second_done.wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST(JobQueue, LeavesAThreadBehindThatIsHeldUp) {
  auto never = std::make_shared<std::promise<void>>();
  const auto before = std::chrono::steady_clock::now();
  {
    JobQueue queue(1);
    queue.add([held = never->get_future().share()] { held.wait(); });
  }
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
  never->set_value();
}

}  // namespace
}  // namespace isobar::test::job_queue_test
