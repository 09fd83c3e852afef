// SPDX-License-Identifier: Apache-2.0
// One rank of a world of processes: control_process RANK SIZE PORT SILENCE_MS HOW.
// Says its port (rank 0's is chosen by the system for 0), "ready" when all are there, and in the
// end the cause; HOW is what this rank does to deserve one: run, idle, differ, exit, throw or
// leave. Some only leave helpers behind: forks, shell, or daemon, the rest of the program itself.
#include <isobar/core/error.hpp>
#include <ATen/ops/empty.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <thread>

#include "comm/control/control.hpp"

namespace {

using namespace std::chrono_literals;

struct Part {
  isobar::ControlOptions options;
  std::string how;
};

Part read_part(char** arguments) {
  Part part;
  part.options.rank = std::atoi(arguments[1]);
  part.options.size = std::atoi(arguments[2]);
  part.options.port = std::atoi(arguments[3]);
  part.options.silence_limit = std::chrono::milliseconds(std::atoi(arguments[4]));
  part.options.host = "n" + std::to_string(part.options.rank);
  part.options.addresses = {"127.0.0.1"};
  part.options.token = "control_process";
  part.options.secret = "of these processes alone";
  part.options.start_timeout = 30s;
  part.how = arguments[5];
  return part;
}

void misbehave(const std::string& how, isobar::Operation& operation) {
  if (how == "differ") operation.output = at::empty({9});
  if (how == "exit") std::_Exit(0);
  if (how == "throw") throw std::runtime_error("thrown on purpose");
}

/// A helper, without the output for whose end the test's starter waits: it ends at once, as a
/// program does, or lives on for some seconds, whatever becomes of the rank.
void fork_helper(bool lives_on) {
  if (fork() > 0) return;
  close(STDOUT_FILENO);
  close(STDERR_FILENO);
  if (!lives_on) std::exit(0);
  sleep(5);
  std::_Exit(0);
}

void leave_helpers(const std::string& how) {
  if (how == "daemon" && daemon(1, 0) != 0) std::_Exit(1);
  if (how == "shell" && system("sleep 5 > /dev/null 2>&1 &") != 0) std::_Exit(1);
  if (how != "forks") return;
  for (const bool lives_on : {false, true}) fork_helper(lives_on);
}

/// Issues collectives for a minute at most, until the world fails.
void work(const Part& part, isobar::Watch& watch, const isobar::FirstCause& cause) {
  isobar::Operation operation;
  operation.kind = isobar::OperationKind::allreduce;
  operation.output = at::empty({8});
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (!cause.failed() && std::chrono::steady_clock::now() < end) {
    if (operation.sequence == 100) misbehave(part.how, operation);
    if (operation.sequence == 100 && part.how == "leave") return;
    if (part.how != "idle") watch.issued(operation);
    ++operation.sequence;
    std::this_thread::sleep_for(2ms);
  }
}

void run(Part part) {
  auto listener = part.options.rank == 0
                      ? std::make_unique<isobar::ControlListener>(part.options.port)
                      : nullptr;
  if (listener) std::cout << "port " << listener->port() << std::endl;
  const auto cause = std::make_shared<isobar::FirstCause>();
  const auto control = isobar::Control::open(part.options, std::move(listener), cause);
  std::cout << "ready" << std::endl;
  const auto watch = control->watch(1, part.options.rank, part.options.size);
  leave_helpers(part.how);
  work(part, *watch, *cause);
  std::cout << "cause " << cause->message() << std::endl;
}

}  // namespace

int main(int, char** arguments) {
  try {
    run(read_part(arguments));
  } catch (const std::exception& error) {
    std::cout << "error " << error.what() << std::endl;
    return 1;
  }
}
