// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/census.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/communicator.hpp>
#include <isobar/comm/thread_world.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace isobar::test::census_test {
namespace {

CollectiveCount row_of(const CollectiveCensus& census, const std::string& asker) {
  const auto counts = census.counts();
  const auto found = std::find_if(counts.begin(), counts.end(),
                                  [&](const auto& count) { return count.asker == asker; });
  return found == counts.end() ? CollectiveCount{} : *found;
}

TEST(CollectiveCensus, CountsCallsAndBytesByAskerAndOperation) {
  run_ranks(2, [](Communicator& comm) {
    comm.census().start();
    for (int i = 0; i < 3; ++i) {
      const CollectiveAsker asker("sums");
      comm.allreduce(at::ones({5})).wait();
    }
    const CollectiveAsker asker("sums");
    comm.all_gather(at::empty({4}), at::ones({2})).wait();
    const auto counts = comm.census().counts();
    ASSERT_EQ(counts.size(), 2);
    EXPECT_EQ(counts[0].operation, OperationKind::allreduce);
    EXPECT_EQ(counts[0].calls, 3);
    EXPECT_EQ(counts[0].bytes, 3 * 5 * 4);
    EXPECT_EQ(counts[1].operation, OperationKind::all_gather);
    EXPECT_EQ(counts[1].bytes, 16) << "what is gathered is larger than what is sent";
  });
}

TEST(CollectiveCensus, NamesTheOutermostAsker) {
  run_ranks(2, [](Communicator& comm) {
    comm.census().start();
    comm.allreduce(at::ones({1})).wait();
    run_agreed(comm, [] {});
    {
      const CollectiveAsker outer("outer");
      { const CollectiveAsker inner("inner"); }
      run_agreed(comm, [] {});
    }
    EXPECT_EQ(row_of(comm.census(), "other").calls, 1);
    EXPECT_EQ(row_of(comm.census(), "agreement").calls, 1);
    EXPECT_EQ(row_of(comm.census(), "outer").calls, 1);
  });
}

TEST(CollectiveCensus, SeesWhatGroupsOfTheWorldIssue) {
  run_ranks(4, [](Communicator& comm) {
    const auto half = comm.split(comm.rank() / 2, 0);
    const auto alone = comm.split(comm.rank(), 0);
    comm.census().start();
    half->allreduce(at::ones({1})).wait();
    alone->allreduce(at::ones({1})).wait();
    ASSERT_EQ(comm.census().counts().size(), 1);
    EXPECT_EQ(comm.census().counts()[0].calls, 1) << "a group of one sends nothing";
    EXPECT_EQ(&half->census(), &comm.census());
  });
}

TEST(CollectiveCensus, CountsFromItsStartOn) {
  run_ranks(2, [](Communicator& comm) {
    auto& census = comm.census();
    comm.allreduce(at::ones({1})).wait();
    EXPECT_TRUE(census.counts().empty());
    census.start();
    auto under_way = comm.allreduce(at::ones({1}));
    census.start();
    under_way.wait();
    EXPECT_TRUE(census.counts().empty());
    EXPECT_EQ(census.exposed_s(), 0);
    census.stop();
    comm.allreduce(at::ones({1})).wait();
    EXPECT_TRUE(census.counts().empty());
  });
}

TEST(CollectiveCensus, TellsWaitsFromWhatTheyHid) {
  run_ranks(2, [](Communicator& comm) {
    comm.census().start();
    auto work = comm.allreduce(at::ones({1}));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    work.wait();
    const auto once = comm.census().counts()[0];
    EXPECT_GE(once.seconds - once.exposed_s, 0.005);
    EXPECT_GT(once.exposed_s, 0);
    work.wait();
    const auto twice = comm.census().counts()[0];
    EXPECT_EQ(twice.seconds, once.seconds) << "it has come once";
    EXPECT_EQ(twice.exposed_s, comm.census().exposed_s());
  });
}

TEST(CollectiveCensus, KeepsTwoWorldsApart) {
  run_ranks(2, [](Communicator& comm) {
    const auto other = make_self_communicator();
    comm.census().start();
    other->census().start();
    comm.allreduce(at::ones({1})).wait();
    EXPECT_TRUE(other->census().counts().empty());
    EXPECT_EQ(comm.census().counts()[0].calls, 1) << "of this rank, though ranks are threads";
  });
}

}  // namespace
}  // namespace isobar::test::census_test
