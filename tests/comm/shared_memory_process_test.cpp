// SPDX-License-Identifier: Apache-2.0
// Ranks that are processes. SHARED_MEMORY_PROCESS is the program that they run.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"

extern char** environ;

namespace isobar::test::shared_memory_process_test {
namespace {

using Clock = std::chrono::steady_clock;

/// A process whose output is kept; it is killed at the end of its scope.
class Child {
 public:
  explicit Child(std::vector<std::string> arguments) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ) != 0) std::abort();
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    output_ = ends[0];
  }

  ~Child() {
    if (!ended_) kill(pid_, SIGKILL);
    while (!ended_) reap();
    close(output_);
  }

  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Reads until the output ends or the time has come; true if it ended. The process stays a
  /// zombie until its status is asked for.
  bool ends_by(Clock::time_point deadline) {
    char buffer[4096];
    for (;;) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      pollfd wanted{output_, POLLIN, 0};
      if (left.count() <= 0 || poll(&wanted, 1, static_cast<int>(left.count())) <= 0) return false;
      const auto count = read(output_, buffer, sizeof buffer);
      if (count <= 0) break;
      text_.append(buffer, static_cast<size_t>(count));
    }
    return true;
  }

  const std::string& text() const { return text_; }
  int status() {
    while (!ended_) reap();
    return status_;
  }

 private:
  void reap() { ended_ = waitpid(pid_, &status_, 0) == pid_; }

  pid_t pid_ = 0;
  int output_ = -1;
  int status_ = 0;
  bool ended_ = false;
  std::string text_;
};

/// `size` ranks of one program.
class Processes {
 public:
  Processes(const std::string& program, int size) {
    static std::atomic<int> worlds{0};
    prefix_ = "isobar-process-" + std::to_string(getpid()) + "-" + std::to_string(worlds++);
    for (int r = 0; r < size; ++r) {
      children_.push_back(std::make_unique<Child>(std::vector<std::string>{
          SHARED_MEMORY_PROCESS, program, prefix_, std::to_string(r), std::to_string(size)}));
    }
  }

  Child& operator[](int rank) { return *children_[rank]; }

  void expect_all_succeed() {
    const auto deadline = Clock::now() + std::chrono::seconds(50);
    for (auto& child : children_) {
      EXPECT_TRUE(child->ends_by(deadline)) << child->text();
      EXPECT_EQ(child->status(), 0) << child->text();
    }
  }

  void expect_nothing_left_behind() const {
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(prefix_)) << entry.path();
    }
  }

 private:
  std::string prefix_;
  std::vector<std::unique_ptr<Child>> children_;
};

class OfAnySize : public testing::TestWithParam<int> {};

TEST_P(OfAnySize, RunAllScenarios) {
  Processes ranks("runs_all_scenarios", GetParam());
  ranks.expect_all_succeed();
  ranks.expect_nothing_left_behind();
}

INSTANTIATE_TEST_SUITE_P(SharedMemoryProcesses, OfAnySize, testing::Range(1, 6));

TEST(SharedMemoryProcesses, SumWithTheBitsOfThreads) {
  Processes("sums_with_the_bits_of_threads", 4).expect_all_succeed();
}

TEST(SharedMemoryProcesses, MoveLargeBuffers) {
  Processes("moves_large_buffers", 3).expect_all_succeed();
}

TEST(SharedMemoryProcesses, CompleteADroppedWorkBeforeTheyEnd) {
  Processes("drops_its_last_work", 3).expect_all_succeed();
}

TEST(SharedMemoryProcesses, MayEndWithAStaticCommunicatorAndWorkInFlight) {
  Processes("ends_with_a_static_communicator", 2).expect_all_succeed();
}

TEST(SharedMemoryProcesses, AreAllToldWhoCallsSomethingElse) {
  Processes ranks("calls_something_else", 3);
  ranks.expect_all_succeed();
  for (int r = 0; r < 3; ++r) {
    expect_contains(ranks[r].text(),
                    "collective #3: rank 0 of 3 calls 'allreduce sum float32[3]', rank 1 calls "
                    "'barrier'");
  }
}

class EachOperation : public testing::TestWithParam<const char*> {};

TEST_P(EachOperation, NamesAKilledRank) {
  Processes ranks("is_killed." + std::string(GetParam()), 4);
  ASSERT_TRUE(ranks[3].ends_by(Clock::now() + std::chrono::seconds(30)));
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  for (int r = 0; r < 3; ++r) {
    EXPECT_TRUE(ranks[r].ends_by(deadline)) << "rank " << r << ": " << ranks[r].text();
    expect_contains(ranks[r].text(), ": rank 3 (pid ");
    expect_contains(ranks[r].text(), ") is gone");
  }
  EXPECT_TRUE(WIFSIGNALED(ranks[3].status()));
  ranks.expect_nothing_left_behind();
}

TEST_P(EachOperation, NamesAStoppedRankOnceTheLimitHasPassed) {
  Processes ranks("is_stopped." + std::string(GetParam()), 4);
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  for (int r = 0; r < 3; ++r) {
    EXPECT_TRUE(ranks[r].ends_by(deadline)) << "rank " << r << ": " << ranks[r].text();
    expect_contains(ranks[r].text(), "no answer in 1 s");
    // On a busy machine another may not have arrived either.
    EXPECT_TRUE(std::regex_search(ranks[r].text(), std::regex("not arrived: ranks? ([0-2], )*3")))
        << ranks[r].text();
  }
  ranks.expect_nothing_left_behind();
}

INSTANTIATE_TEST_SUITE_P(SharedMemoryProcesses, EachOperation,
                         testing::Values("allreduce", "small_allreduce", "reduce_scatter",
                                         "all_gather", "all_to_all", "broadcast", "barrier",
                                         "message"));

}  // namespace
}  // namespace isobar::test::shared_memory_process_test
