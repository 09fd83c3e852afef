// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/plain_stream.hpp>

#include <isobar/bench/communicator_subject.hpp>
#include <isobar/comm/thread_world.hpp>
#include <gtest/gtest.h>

namespace isobar::bench::plain_stream_test {
namespace {

TEST(PlainStream, GoesToTheFirstRankOnAnotherNode) {
  EXPECT_EQ(choose_partner({"a", "a", "b", "c"}), 2);
  EXPECT_EQ(choose_partner({"a", "a"}), 1);
  EXPECT_EQ(choose_partner({"a"}), 0);
}

TEST(PlainStream, RunsOverLoopbackOnOneNode) {
  run_ranks(3, [](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::barrier);
    const auto stream = measure_plain_stream(*subject, 0.02);
    EXPECT_EQ(stream.problem, "");
    EXPECT_EQ(stream.path, "loopback");
    EXPECT_EQ(stream.nodes, 1);
    EXPECT_GT(stream.gbit_s, 0.01);
  });
}

TEST(PlainStream, IsLeftOutForOneRankAndForNoTime) {
  run_ranks(1, [](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::barrier);
    EXPECT_EQ(measure_plain_stream(*subject, 1).path, "");
  });
  run_ranks(2, [](Communicator& comm) {
    const auto subject = make_communicator_subject(comm, Collective::barrier);
    EXPECT_EQ(measure_plain_stream(*subject, 0).gbit_s, 0);
  });
}

}  // namespace
}  // namespace isobar::bench::plain_stream_test
