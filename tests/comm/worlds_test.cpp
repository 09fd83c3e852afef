// SPDX-License-Identifier: Apache-2.0
// Several worlds of one launch. Ranks are forked from this process, which therefore has no threads:
// a program by itself, whose every test communicates in children only.
#include <isobar/comm/make_communicator.hpp>

#include <isobar/core/error.hpp>
#include <isobar/launch/endpoint.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"
#include "comm/stranger.hpp"
#include "launch/scoped_environment.hpp"

namespace isobar::test::worlds_test {
namespace {

using Act = std::function<std::string()>;

/// What `act` gives or throws in a forked process, by its pipe.
struct RankProcess {
  pid_t pid = 0;
  int output = -1;

  RankProcess(int rank, const Act& act) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    output = ends[0];
    pid = fork();
    if (pid != 0) {
      close(ends[1]);
      return;
    }
    alarm(150);
    setenv("RANK", std::to_string(rank).c_str(), 1);
    std::string text;
    try {
      text = act();
    } catch (const std::exception& error) {
      text = error.what();
    }
    const auto written = write(ends[1], text.data(), text.size());
    _exit(written == static_cast<ssize_t>(text.size()) ? 0
                                                       : 1);  // the other tests are the parent's
  }

  std::string said() const {
    std::string text;
    char buffer[1024];
    for (ssize_t count = 0; (count = read(output, buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<size_t>(count));
    }
    close(output);
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    return text;
  }
};

/// What the processes of a launch of so many ranks say, in the order of ranks.
std::vector<std::string> said_by_ranks(int size, const Act& act, int port = free_port()) {
  const ScopedEnvironment environment(Variables{{"MASTER_ADDR", "127.0.0.1"},
                                                {"MASTER_PORT", std::to_string(port)},
                                                {"WORLD_SIZE", std::to_string(size)}});
  std::vector<RankProcess> ranks;
  for (int r = 0; r < size; ++r) ranks.emplace_back(r, act);
  std::vector<std::string> said;
  for (const auto& rank : ranks) said.push_back(rank.said());
  return said;
}

/// Each rank's number, added over the world.
int64_t sum_of_ranks(Communicator& comm) {
  auto sum = at::full({1}, comm.rank(), at::kLong);
  comm.allreduce(sum).wait();
  return sum.item<int64_t>();
}

/// A backend that makes no use of a launcher.
class Worlds : public testing::TestWithParam<const char*> {
 protected:
  static std::unique_ptr<Communicator> make(std::chrono::seconds start_timeout = kPatience) {
    return make_communicator(
        {.backend = GetParam(), .timeout = kPatience, .start_timeout = start_timeout});
  }
  static constexpr std::chrono::seconds kPatience{60};
};
INSTANTIATE_TEST_SUITE_P(Backends, Worlds, testing::ValuesIn([] {
                           std::vector<const char*> backends{"shm"};
                           if (has_gloo()) backends.push_back("gloo");
                           return backends;
                         }()));

TEST_P(Worlds, OfOneProcessLiveBesideEachOtherAndInTurn) {
  const auto act = [] {
    auto first = make();
    const auto second = make();
    std::string sums;
    for (int i = 0; i < 2; ++i) {
      sums += std::to_string(sum_of_ranks(*second)) + " " + std::to_string(sum_of_ranks(*first));
      sums += " ";
    }
    first.reset();
    first = make();
    return sums + std::to_string(sum_of_ranks(*first)) + " " +
           std::to_string(sum_of_ranks(*second));
  };
  for (const auto& said : said_by_ranks(3, act)) EXPECT_EQ(said, "3 3 3 3 3 3");
}

TEST_P(Worlds, BeginAnewWhereTheFirstHasFailed) {
  const auto act = [] {
    const auto first = make();
    if (first->rank() == 0) {
      first->barrier().wait();  // the other has made it, too
      first->abort("no more");
    }
    const auto failure = error_of<CommError>([&] {
      while (true) first->barrier().wait();
    });
    return failure + ", " + std::to_string(sum_of_ranks(*make()));
  };
  for (const auto& said : said_by_ranks(2, act)) EXPECT_EQ(said, "rank 0 of 2: no more, 1");
}

TEST_P(Worlds, NameWhoDoesNotComeToTheSecond) {
  const auto act = [] {
    const auto first = make();
    std::string said;
    if (first->rank() == 0) {
      said = error_of<CommError>([] { make(std::chrono::seconds(1)); });
    }
    first->barrier().wait();
    return said;
  };
  expect_contains(said_by_ranks(2, act)[0], "rank 1 has not come in 1 s");
}

TEST_P(Worlds, PassOverAPortThatAStrangerHas) {
  const auto act = [] {
    const auto first = make();
    std::unique_ptr<Stranger> stranger;
    if (first->rank() == 0) {
      const auto launch = read_endpoint(read_launch_environment());
      stranger = std::make_unique<Stranger>(endpoint_of_world(launch, 1).port);
    }
    first->barrier().wait();
    return std::to_string(sum_of_ranks(*make()));
  };
  for (const auto& said : said_by_ranks(2, act)) EXPECT_EQ(said, "1");
}

}  // namespace
}  // namespace isobar::test::worlds_test
