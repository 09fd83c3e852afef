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

/// Of the waits that have returned since the last time.
std::vector<CollectiveSpan> spans_of(Communicator& comm) {
  std::vector<CollectiveSpan> spans;
  comm.census().take_spans(spans);
  return spans;
}

ReduceOptions of_bucket(int32_t bucket) { return {.mark = {.bucket = bucket}}; }

TEST(CollectiveCensus, KeepsWaitsOnceItIsAskedTo) {
  run_ranks(2, [](Communicator& comm) {
    comm.census().start();
    comm.allreduce(at::ones({1})).wait();
    EXPECT_TRUE(spans_of(comm).empty());
    comm.census().keep_spans();
    auto sum = comm.allreduce(at::ones({3}), of_bucket(7));
    EXPECT_TRUE(spans_of(comm).empty()) << "nobody has waited yet";
    sum.wait();
    comm.barrier().wait();
    const auto spans = spans_of(comm);
    ASSERT_EQ(spans.size(), 2);
    EXPECT_EQ(spans[0].bucket, 7);
    EXPECT_EQ(spans[0].bytes, 12);
    EXPECT_LE(spans[0].call, spans[0].wait_begin);
    EXPECT_LE(spans[0].wait_begin, spans[0].wait_end);
    EXPECT_LE(spans[0].wait_end, spans[1].wait_begin);
    EXPECT_LT(spans[1].bucket, 0);
    EXPECT_TRUE(spans_of(comm).empty());
  });
}

TEST(CollectiveCensus, KeepsSpansThatAddUpToWhatWasExposed) {
  run_ranks(3, [](Communicator& comm) {
    comm.census().start();
    comm.census().keep_spans();
    double sum_s = 0;
    for (int i = 0; i < 5; ++i) {
      auto work = comm.allreduce(at::ones({1}), of_bucket(i));
      work.wait();
      work.wait();
    }
    for (const auto& span : spans_of(comm)) {
      sum_s += std::chrono::duration<double>(span.wait_end - span.wait_begin).count();
    }
    EXPECT_NEAR(sum_s, comm.census().exposed_s(), 1e-12);
  });
}

TEST(CollectiveCensus, SeesABucketEndBeforeItIsWaitedFor) {
  run_ranks(2, [](Communicator& comm) {
    comm.census().start();
    comm.census().keep_spans();
    auto sum = comm.allreduce(at::ones({1}), of_bucket(0));
    comm.barrier().wait();  // after which all have come to the sum, too
    while (!sum.is_completed()) std::this_thread::yield();
    (void)spans_of(comm);
    const auto looked = std::chrono::steady_clock::now();
    sum.wait();
    const auto spans = spans_of(comm);
    ASSERT_EQ(spans.size(), 1);
    EXPECT_LE(spans[0].call, spans[0].ended);
    EXPECT_LE(spans[0].ended, looked);
  });
}

TEST(CollectiveCensus, ForgetsABucketThatNobodyWaitsFor) {
  run_ranks(2, [](Communicator& comm) {
    comm.census().start();
    comm.census().keep_spans();
    { const auto dropped = comm.allreduce(at::ones({1}), of_bucket(0)); }
    comm.allreduce(at::ones({1}), of_bucket(1)).wait();
    const auto spans = spans_of(comm);
    ASSERT_EQ(spans.size(), 1);
    EXPECT_EQ(spans[0].bucket, 1);
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
