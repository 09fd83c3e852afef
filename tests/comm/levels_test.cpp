// SPDX-License-Identifier: Apache-2.0
#include "comm/levels/levels.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"

namespace isobar::levels_test {
namespace {

using namespace test;

/// Two nodes of two ranks each.
std::unique_ptr<Communicator> on_two_nodes(
    Communicator& comm, const std::string& token,
    std::shared_ptr<FirstCause> cause = std::make_shared<FirstCause>()) {
  return with_levels(comm.split(0, comm.rank()), {.levels = Levels::node,
                                                  .node = comm.rank() < 2 ? "a" : "b",
                                                  .token = token + std::to_string(getpid()),
                                                  .cause = std::move(cause)});
}

/// Overwrites what this thread has freed: who still uses it does not get away with it.
void overwrite_freed_memory() {
  constexpr size_t kLargest = 1024;
  constexpr int kOfEach = 16;
  std::vector<std::unique_ptr<char[]>> blocks;
  for (size_t size = 16; size <= kLargest; size += 16) {
    for (int i = 0; i < kOfEach; ++i) {
      blocks.push_back(std::make_unique_for_overwrite<char[]>(size));
      std::memset(blocks.back().get(), 0x7f, size);
    }
  }
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

// The thread that waits for the operation is left behind, and reports its end later.
TEST(LevelsOfNodes, MayGoBeforeTheWorldFailsUnderTheirLastOperation) {
  run_ranks(4, [](Communicator& comm) {
    std::promise<std::string> reported;
    const auto cause = std::make_shared<FirstCause>();
    cause->set_arbiter([&](const std::string& suspicion) { reported.set_value(suspicion); });
    auto levels = on_two_nodes(comm, "gone", cause);
    if (comm.rank() == 0) {
      { const auto dropped = levels->all_gather(at::zeros({4}), at::zeros({1})); }
      levels.reset();
      overwrite_freed_memory();
    }
    comm.barrier().wait();
    if (comm.rank() != 0) return;  // without a call of theirs
    auto text = reported.get_future();
    ASSERT_EQ(text.wait_for(std::chrono::seconds(30)), std::future_status::ready);
    expect_contains(text.get(), " of 4 left before all_gather #");
    cause->set_arbiter(nullptr);
  });
}

}  // namespace
}  // namespace isobar::levels_test
