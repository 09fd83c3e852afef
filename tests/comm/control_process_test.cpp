// SPDX-License-Identifier: Apache-2.0
// Worlds of real processes: what becomes of them when one is killed or stopped.
#include "comm/control/control.hpp"

#include "comm/expect_error.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

namespace isobar::control_process_test {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using test::expect_contains;

/// A started program whose output is read line by line; killed with its owner.
class Child {
 public:
  explicit Child(const std::vector<std::string>& command) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    std::vector<char*> arguments;
    for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      execv(arguments[0], arguments.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = ends[0];
  }
  ~Child() {
    signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(output_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const { kill(pid_, number); }

  /// The rest of the first line that starts with `word`; "nothing" after `limit`.
  std::string says(const std::string& word, milliseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (true) {
      if (const auto line = next_line(); line.rfind(word, 0) == 0) return line.substr(word.size());
      const auto left =
          std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
      pollfd entry{output_, POLLIN, 0};
      std::array<char, 4096> buffer;
      if (left.count() <= 0 || poll(&entry, 1, static_cast<int>(left.count())) <= 0)
        return "nothing";
      const auto count = read(output_, buffer.data(), buffer.size());
      if (count <= 0) return "nothing";
      read_.append(buffer.data(), static_cast<size_t>(count));
    }
  }

 private:
  /// Empty where no line is complete.
  std::string next_line() {
    const auto end = read_.find('\n');
    if (end == std::string::npos) return {};
    const auto line = read_.substr(0, end);
    read_.erase(0, end + 1);
    return line;
  }

  pid_t pid_ = -1;
  int output_ = -1;
  std::string read_;
};

/// Four ranks, of which `odd` does `how`.
class ProcessWorld {
 public:
  explicit ProcessWorld(milliseconds silence, int odd = -1, const std::string& how = "run") {
    std::string port = "0";
    for (int rank = 0; rank < 4; ++rank) {
      ranks_.push_back(std::make_unique<Child>(
          std::vector<std::string>{CONTROL_PROCESS, std::to_string(rank), "4", port,
                                   std::to_string(silence.count()), rank == odd ? how : "run"}));
      if (rank == 0) port = ranks_[0]->says("port ", 10s);
    }
    for (auto& rank : ranks_) EXPECT_NE(rank->says("ready", 20s), "nothing");
  }

  Child& operator[](int rank) { return *ranks_[rank]; }

  /// The cause that all but `without` give within `limit` of now.
  std::string cause(int without, milliseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    std::string common;
    for (int rank = 0; rank < 4; ++rank) {
      if (rank == without) continue;
      const auto left = end - std::chrono::steady_clock::now();
      const auto said =
          ranks_[rank]->says("cause ", std::chrono::duration_cast<milliseconds>(left));
      if (common.empty()) common = said;
      EXPECT_EQ(said, common) << "rank " << rank;
    }
    return common;
  }

 private:
  std::vector<std::unique_ptr<Child>> ranks_;
};

class ControlProcesses : public testing::TestWithParam<int> {};

TEST_P(ControlProcesses, NameTheOneThatWasKilled) {
  const int victim = GetParam();
  ProcessWorld world(10s);
  const auto pid = std::to_string(world[victim].pid());
  std::this_thread::sleep_for(100ms);
  world[victim].signal(SIGKILL);
  expect_contains(world.cause(victim, 2s), "rank " + std::to_string(victim) + " of 4 on n" +
                                               std::to_string(victim) + " (pid " + pid +
                                               ") is gone: its control connection closed");
}

TEST_P(ControlProcesses, NameTheOneThatIsStoppedWithinTheLimit) {
  const int victim = GetParam();
  ProcessWorld world(2s);
  world[victim].signal(SIGSTOP);
  const auto text = world.cause(victim, 4s);
  expect_contains(text, "rank " + std::to_string(victim) + " of 4 on n");
  expect_contains(text, "has been silent for 2 s (stopped, swapped out or cut off)");
  // Once it runs again it learns the same, and accuses nobody.
  world[victim].signal(SIGCONT);
  EXPECT_EQ(world[victim].says("cause ", 2s), text);
}

TEST_P(ControlProcesses, DoNotMindAShortStop) {
  const int victim = GetParam();
  ProcessWorld world(2s);
  world[victim].signal(SIGSTOP);
  std::this_thread::sleep_for(500ms);
  world[victim].signal(SIGCONT);
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(world[rank].says("cause ", 500ms), "nothing");
}

TEST_P(ControlProcesses, NameTheOneThatExitsEarly) {
  const int victim = GetParam();
  ProcessWorld world(10s, victim, "exit");
  expect_contains(world.cause(victim, 5s), ") is gone: its control connection closed");
}

TEST_P(ControlProcesses, NameTheOneThatLeavesEarly) {
  const int victim = GetParam();
  ProcessWorld world(10s, victim, "leave");
  expect_contains(world.cause(victim, 5s), " left before ");
}

TEST_P(ControlProcesses, NameTheOneThatThrows) {
  const int victim = GetParam();
  ProcessWorld world(10s, victim, "throw");
  expect_contains(world.cause(victim, 5s), ": an exception ended it");
}

TEST_P(ControlProcesses, NameTheOneThatCallsSomethingElse) {
  const int victim = GetParam();
  ProcessWorld world(10s, victim, "differ");
  const auto text = world.cause(-1, 5s);
  expect_contains(text, "collective #100: rank 0 of 4 calls 'allreduce sum float32[");
  expect_contains(text, "rank " + std::to_string(victim));
}

INSTANTIATE_TEST_SUITE_P(EveryRank, ControlProcesses, testing::Values(0, 1, 3));

TEST(ControlProcess, AllStoppedAndResumedOneByOneAccuseNobody) {
  ProcessWorld world(3s);
  for (int rank = 0; rank < 4; ++rank) world[rank].signal(SIGSTOP);
  std::this_thread::sleep_for(4s);
  for (int rank = 3; rank >= 0; --rank) {
    world[rank].signal(SIGCONT);
    std::this_thread::sleep_for(100ms);
  }
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(world[rank].says("cause ", 300ms), "nothing");
}

TEST(ControlProcess, TwoKilledTogetherAreBothNamed) {
  ProcessWorld world(10s);
  world[1].signal(SIGKILL);
  world[2].signal(SIGKILL);
  const auto text = world[0].says("cause ", 2s);
  expect_contains(text, "rank 1 of 4 on n1");
  expect_contains(text, "rank 2 of 4 on n2");
  EXPECT_EQ(world[3].says("cause ", 2s), text);
}

}  // namespace
}  // namespace isobar::control_process_test
