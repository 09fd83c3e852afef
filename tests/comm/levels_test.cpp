// SPDX-License-Identifier: Apache-2.0
#include "comm/levels/levels.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include "comm/expect_error.hpp"

namespace isobar::levels_test {
namespace {

using namespace test;

/// Two nodes of two ranks each.
std::unique_ptr<Communicator> on_two_nodes(Communicator& comm, const std::string& token) {
  return with_levels(comm.split(0, comm.rank()), {.levels = Levels::node,
                                                  .node = comm.rank() < 2 ? "a" : "b",
                                                  .token = token + std::to_string(getpid()),
                                                  .cause = std::make_shared<FirstCause>()});
}

TEST(LevelsOfNodes, AddUpOverAllRanks) {
  run_ranks(4, [](Communicator& comm) {
    const auto levels = on_two_nodes(comm, "sum");
    auto values = at::full({9}, comm.rank() + 1.0);
    levels->allreduce(values, {.mark = {.bucket = 0, .reducer = 0}}).wait();
    EXPECT_TRUE(at::equal(values, at::full({9}, 10.0)));
  });
}

TEST(LevelsOfNodes, TellReducersApartInsideANode) {
  run_ranks(4, [](Communicator& comm) {
    const auto levels = on_two_nodes(comm, "apart");
    const auto text = error_of<CommError>([&] {
      levels->allreduce(at::ones({8}), {.mark = {.bucket = 0, .reducer = comm.rank() % 2}}).wait();
    });
    expect_contains(text, " of bucket 0, reducer 0'");
    expect_contains(text, " of bucket 0, reducer 1'");
  });
}

}  // namespace
}  // namespace isobar::levels_test
