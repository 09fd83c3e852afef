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
#include <utility>
#include <vector>

namespace isobar::control_process_test {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using test::expect_contains;

/// What takes longer is lost, on however busy a machine.
constexpr milliseconds kLimit{30'000};

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
  /// It stays a zombie.
  void await_end() const {
    siginfo_t info;
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  }

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
      if (rank == 0) port = ranks_[0]->says("port ", kLimit);
    }
    for (auto& rank : ranks_) EXPECT_NE(rank->says("ready", kLimit), "nothing");
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

  void expect_no_cause(milliseconds time) {
    std::this_thread::sleep_for(time);
    for (auto& rank : ranks_) EXPECT_EQ(rank->says("cause ", 1ms), "nothing");
  }

 private:
  std::vector<std::unique_ptr<Child>> ranks_;
};

class ControlProcesses : public testing::TestWithParam<int> {};

TEST_P(ControlProcesses, NameTheOneThatWasKilled) {
  const int victim = GetParam();
  ProcessWorld world(kLimit);
  const auto pid = std::to_string(world[victim].pid());
  world[victim].signal(SIGKILL);
  expect_contains(world.cause(victim, kLimit), "rank " + std::to_string(victim) + " of 4 on n" +
                                                   std::to_string(victim) + " (pid " + pid +
                                                   ") is gone: its control connection closed");
}

TEST(ControlProcess, HelpersNeitherHarmAWorldNorHideTheirRanksDeath) {
  for (const auto& [victim, how] :
       {std::pair(0, "forks"), std::pair(1, "forks"), std::pair(0, "shell")}) {
    ProcessWorld world(kLimit, victim, how);
    world.expect_no_cause(100ms);
    world[victim].signal(SIGKILL);
    expect_contains(world.cause(victim, kLimit), ") is gone: its control connection closed");
  }
}

TEST(ControlProcess, NamesTheOneThatBecomesADaemon) {
  ProcessWorld world(kLimit, 1, "daemon");
  expect_contains(world.cause(1, kLimit), "rank 1 of 4 on n1 (pid ");
}

void expect_stopped_rank_named(int victim) {
  ProcessWorld world(2s);
  world[victim].signal(SIGSTOP);
  const auto text = world.cause(victim, kLimit);
  expect_contains(text, "rank " + std::to_string(victim) + " of 4 on n");
  expect_contains(text, "has been silent for 2 s (stopped, swapped out or cut off)");
  // Once it runs again it learns the same, and accuses nobody.
  world[victim].signal(SIGCONT);
  EXPECT_EQ(world[victim].says("cause ", kLimit), text);
}

void expect_short_stop_forgiven(int victim) {
  ProcessWorld world(4s);
  world[victim].signal(SIGSTOP);
  std::this_thread::sleep_for(500ms);
  world[victim].signal(SIGCONT);
  world.expect_no_cause(500ms);
}

/// For each rank at a time, since most of it is waiting.
void for_every_rank(void (*expect)(int victim)) {
  std::vector<std::thread> threads;
  for (const int victim : {0, 1, 3}) threads.emplace_back(expect, victim);
  for (auto& thread : threads) thread.join();
}

TEST(ControlProcess, NamesTheOneThatIsStoppedOnceTheLimitHasPassed) {
  for_every_rank(expect_stopped_rank_named);
}

TEST(ControlProcess, DoesNotMindAShortStop) { for_every_rank(expect_short_stop_forgiven); }

TEST_P(ControlProcesses, NameTheOneThatExitsEarly) {
  const int victim = GetParam();
  ProcessWorld world(kLimit, victim, "exit");
  expect_contains(world.cause(victim, kLimit), ") is gone: its control connection closed");
}

TEST_P(ControlProcesses, NameTheOneThatLeavesEarly) {
  const int victim = GetParam();
  ProcessWorld world(kLimit, victim, "leave");
  expect_contains(world.cause(victim, kLimit), " left before ");
}

TEST_P(ControlProcesses, NameTheOneThatThrows) {
  const int victim = GetParam();
  ProcessWorld world(kLimit, victim, "throw");
  expect_contains(world.cause(victim, kLimit), ": an exception ended it");
}

TEST_P(ControlProcesses, NameTheOneThatCallsSomethingElse) {
  const int victim = GetParam();
  ProcessWorld world(kLimit, victim, "differ");
  const auto text = world.cause(-1, kLimit);
  expect_contains(text, "collective #100: rank 0 of 4 calls 'allreduce sum float32[");
  expect_contains(text, "rank " + std::to_string(victim));
}

INSTANTIATE_TEST_SUITE_P(EveryRank, ControlProcesses, testing::Values(0, 1, 3));

TEST(ControlProcess, AllStoppedAndResumedOneByOneAccuseNobody) {
  ProcessWorld world(2s);
  for (int rank = 0; rank < 4; ++rank) world[rank].signal(SIGSTOP);
  std::this_thread::sleep_for(2500ms);
  for (int rank = 3; rank >= 0; --rank) {
    world[rank].signal(SIGCONT);
    std::this_thread::sleep_for(100ms);
  }
  world.expect_no_cause(300ms);
}

TEST(ControlProcess, TwoKilledTogetherAreBothNamed) {
  ProcessWorld world(kLimit);
  // However long the two take to end, rank 0 sees both at once.
  world[0].signal(SIGSTOP);
  for (const int victim : {1, 2}) {
    world[victim].signal(SIGKILL);
    world[victim].await_end();
  }
  world[0].signal(SIGCONT);
  const auto text = world[0].says("cause ", kLimit);
  expect_contains(text, "rank 1 of 4 on n1");
  expect_contains(text, "rank 2 of 4 on n2");
  EXPECT_EQ(world[3].says("cause ", kLimit), text);
}

}  // namespace
}  // namespace isobar::control_process_test
