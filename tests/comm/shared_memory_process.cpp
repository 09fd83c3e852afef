// SPDX-License-Identifier: Apache-2.0
// One rank of a small world of processes: program, name of the memory, rank, size.
// shared_memory_process_test.cpp starts them and looks at what they say.
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "comm/scenarios.hpp"
#include "comm/shared_memory/shared_memory.hpp"
#include "comm/shared_memory_sums.hpp"

namespace isobar::test {
namespace {

using namespace std::chrono_literals;

struct Place {
  std::string name;
  int rank;
  int size;
};

std::unique_ptr<Communicator> join(const Place& place, std::chrono::milliseconds timeout = 20s) {
  return make_shared_memory_communicator({place.name, place.rank, place.size, timeout, nullptr});
}

void runs_all_scenarios(const Place& place) {
  const auto world = join(place);
  for (const auto& scenario : scenarios()) {
    SCOPED_TRACE(scenario.name);
    scenario.run(*world);
  }
}

void sums_with_the_bits_of_threads(const Place& place) { expect_bits_of_threads(*join(place)); }

void moves_large_buffers(const Place& place) { expect_large_moves(*join(place)); }

Work start(Communicator& comm, const std::string& operation) {
  constexpr int64_t kCount = 200'000;
  const int size = comm.size();
  if (operation == "allreduce") return comm.allreduce(at::ones({kCount}));
  if (operation == "small_allreduce") return comm.allreduce(at::ones({3}));
  if (operation == "reduce_scatter") {
    return comm.reduce_scatter(at::empty({kCount}), at::ones({size * kCount}));
  }
  if (operation == "all_gather") {
    return comm.all_gather(at::empty({size * kCount}), at::ones({kCount}));
  }
  if (operation == "broadcast") return comm.broadcast(at::ones({kCount}), 1);
  if (operation == "barrier") return comm.barrier();
  if (operation == "all_to_all") {
    const std::vector<int64_t> rows(size, kCount);
    return comm.all_to_all(at::empty({size * kCount}), at::ones({size * kCount}), rows, rows);
  }
  // Messages around a ring: whoever is next to the rank that is lost waits for it, one way or the
  // other; the rest learns it from the memory.
  auto sent = comm.send(at::ones({kCount}), (comm.rank() + 1) % size);
  auto buffer = at::empty({kCount});
  comm.receive(buffer, (comm.rank() + size - 1) % size).wait();
  return sent;
}

/// Repeats an operation; the last rank raises `signal` in the midst of them.
void repeats(const Place& place, const std::string& operation, int signal,
             std::chrono::milliseconds timeout) {
  const auto comm = join(place);
  comm->set_timeout(timeout);
  std::thread killer;
  if (place.rank == place.size - 1) {
    killer = std::thread([signal] {
      std::this_thread::sleep_for(100ms);
      raise(signal);
    });
  }
  try {
    for (;;) start(*comm, operation).wait();
  } catch (const CommError& error) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    std::printf("%.3f CommError: %s\n", std::chrono::duration<double>(now).count(), error.what());
    std::fflush(stdout);
  }
  if (killer.joinable()) killer.join();
}

void calls_something_else(const Place& place) {
  const auto comm = join(place);
  try {
    for (int i = 0; i < 3; ++i) comm->allreduce(at::ones({7})).wait();
    start(*comm, place.rank == 1 ? "barrier" : "small_allreduce").wait();
  } catch (const CommError& error) {
    std::printf("CommError: %s\n", error.what());
  }
}

void drops_its_last_work(const Place& place) {
  const auto comm = join(place);
  if (place.rank == 1) std::this_thread::sleep_for(200ms);
  [[maybe_unused]] const auto dropped = comm->allreduce(at::ones({100'000}));
}

void ends_with_a_static_communicator(const Place& place) {
  static std::unique_ptr<Communicator> world;
  static Work in_flight;
  world = join(place);
  in_flight = world->allreduce(at::ones({1 << 20}));
}

const std::map<std::string, std::function<void(const Place&)>> kPrograms{
    {"runs_all_scenarios", runs_all_scenarios},
    {"sums_with_the_bits_of_threads", sums_with_the_bits_of_threads},
    {"moves_large_buffers", moves_large_buffers},
    {"calls_something_else", calls_something_else},
    {"drops_its_last_work", drops_its_last_work},
    {"ends_with_a_static_communicator", ends_with_a_static_communicator},
};

int run(const std::string& program, const Place& place) {
  at::set_num_threads(1);
  const auto dot = program.find('.');
  const auto operation = program.substr(dot + 1);
  if (program.starts_with("is_killed.")) {
    repeats(place, operation, SIGKILL, 30s);
  } else if (program.starts_with("is_stopped.")) {
    repeats(place, operation, SIGSTOP, 1s);
  } else {
    kPrograms.at(program)(place);
  }
  return testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed() ? 1 : 0;
}

}  // namespace
}  // namespace isobar::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return isobar::test::run(argv[1], {argv[2], std::atoi(argv[3]), std::atoi(argv[4])});
}
