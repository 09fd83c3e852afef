// SPDX-License-Identifier: Apache-2.0
// One rank of a world of processes: control_process RANK SIZE PORT SILENCE_MS HOW.
// Says its port (rank 0's is chosen by the system for 0), "ready" when all are there, and in the
// end the cause; HOW is what this rank does to deserve one: run, idle, differ, exit, throw or
// leave.
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
  part.options.start_timeout = 20s;
  part.how = arguments[5];
  return part;
}

void misbehave(const std::string& how, isobar::Operation& operation) {
  if (how == "differ") operation.output = at::empty({9});
  if (how == "exit") std::_Exit(0);
  if (how == "throw") throw std::runtime_error("thrown on purpose");
}

/// Issues collectives for ten seconds at most, until the world fails.
void work(const Part& part, isobar::Watch& watch, const isobar::FirstCause& cause) {
  isobar::Operation operation;
  operation.kind = isobar::OperationKind::allreduce;
  operation.output = at::empty({8});
  const auto end = std::chrono::steady_clock::now() + 20s;
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
