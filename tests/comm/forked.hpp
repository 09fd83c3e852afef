// SPDX-License-Identifier: Apache-2.0
// A rank that forks helpers, and what must come of it: nothing.
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace isobar::test {

inline bool is_forked_child = false;

constexpr unsigned kChildSeconds = 20;
/// The time limit of a world whose ranks wait meanwhile for one that forks two children: that one
/// hangs is told by the child's end.
constexpr std::chrono::seconds kLongerThanChildren{3 * kChildSeconds};

/// How a child ends that does `act` and then calls exit(): "" for a good end in time.
inline std::string end_of_child(const std::function<void()>& act) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    is_forked_child = true;
    alarm(kChildSeconds);
    try {
      act();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      _exit(9);
    }
    std::exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) return "no child";
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "exit code " + std::to_string(WEXITSTATUS(status));
}

/// In a forked child: an operation throws at once, in words that name the parent.
inline void expect_refusal(Communicator& comm) {
  try {
    comm.barrier().wait();
  } catch (const CommError& error) {
    const auto parent = "is a fork of process " + std::to_string(getppid());
    if (std::string(error.what()).find(parent) != std::string::npos) return;
  }
  throw Error("the child can use the communicator");
}

/// What is wrong after one rank's helpers have ended in several ways while `comm` and the work on
/// it lived; "" for nothing. Collective: the other ranks wait for it in a barrier.
inline std::string what_children_do(std::unique_ptr<Communicator>& comm) {
  std::string wrong;
  auto early = comm->barrier();
  if (comm->rank() == comm->size() - 1) {
    wrong += end_of_child([&] {
      expect_refusal(*comm);
      comm.reset();
    });
    wrong += end_of_child([&] {
      static std::unique_ptr<Communicator> kept;
      kept = std::move(comm);
    });
  }
  early.wait();
  comm->barrier().wait();
  auto sum = at::ones({1000});
  comm->allreduce(sum).wait();
  if (sum[999].item<float>() != static_cast<float>(comm->size())) wrong += "a wrong sum";
  return wrong;
}

}  // namespace isobar::test

/// The leak sanitizer's question at the end of a process. In a child, what the threads held that
/// fork() does not copy is lost, and no leak.
extern "C" inline __attribute__((used)) int __lsan_is_turned_off() {  // NOLINT
  return isobar::test::is_forked_child ? 1 : 0;
}
