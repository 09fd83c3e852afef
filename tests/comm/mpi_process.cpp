// SPDX-License-Identifier: Apache-2.0
// One process of a small MPI program, by name of what it shows; mpi_process.cmake looks at how it
// ends.
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include "comm/backend/first_cause.hpp"

#include <isobar/launch/environment.hpp>
#include "comm/forked.hpp"
#include "comm/mpi/communicator.hpp"
#include <ATen/ATen.h>
#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <thread>

namespace {

using namespace isobar;
using namespace std::chrono_literals;

/// MPI_Init takes seconds on a busy machine.
constexpr auto kStart = 60s;

/// Destroyed after everything that the library keeps until the end of the program.
std::unique_ptr<Communicator> static_world;

bool is_first() { return read_launch_environment().rank == 0; }

void sleep_long() { std::this_thread::sleep_for(60s); }

/// 3 after a CommError, which is printed.
int report(const std::function<void()>& act) {
  try {
    act();
    return 0;
  } catch (const CommError& error) {
    std::printf("CommError: %s\n", error.what());
  } catch (const UsageError& error) {
    std::printf("UsageError: %s\n", error.what());
  }
  std::fflush(stdout);
  return 3;
}

int never_starts() {
  if (!is_first()) sleep_long();
  std::_Exit(report([] { make_mpi_communicator(1s); }));
}

int never_starts_and_returns() {
  if (!is_first()) sleep_long();
  return report([] { make_mpi_communicator(1s); });
}

void join_alone(Communicator& comm) {
  if (comm.rank() != 0) sleep_long();
  comm.set_timeout(500ms);
  comm.allreduce(at::ones({7})).wait();
}

int never_joins() {
  const auto comm = make_mpi_communicator(kStart);
  std::_Exit(report([&] { join_alone(*comm); }));
}

int never_joins_and_returns() {
  const auto comm = make_mpi_communicator(kStart);
  return report([&] { join_alone(*comm); });
}

int fails_in_a_group() {
  const auto comm = make_mpi_communicator(kStart);
  const auto group = comm->split(0, 0);
  const auto first = report([&] { join_alone(*group); });
  return first == 0 ? 0 : report([&] { (void)comm->barrier(); });
}

int receives_too_much() {
  const auto comm = make_mpi_communicator(kStart);
  if (comm->rank() == 0) {
    comm->send(at::ones({8}), 1).wait();
    return 0;
  }
  return report([&] { comm->receive(at::ones({7}), 0).wait(); });
}

int receives_too_little() {
  const auto comm = make_mpi_communicator(kStart);
  if (comm->rank() == 0) {
    comm->send(at::ones({6}), 1).wait();
    return 0;
  }
  return report([&] { comm->receive(at::ones({7}), 0).wait(); });
}

/// A rank that waits for a message hears at once what another thread knows.
int is_told_of_a_failure() {
  MpiOptions options;
  options.cause = std::make_shared<FirstCause>();
  const auto comm = make_mpi_communicator(options);
  auto work = comm->receive(at::ones({7}), 1 - comm->rank());
  std::thread teller([&] {
    std::this_thread::sleep_for(200ms);
    options.cause->record("rank 7 is gone");
  });
  const auto start = std::chrono::steady_clock::now();
  const auto result = report([&] { work.wait(); });
  teller.join();
  return std::chrono::steady_clock::now() - start < 15s ? result : 4;
}

/// What the ranks see differs, and one cause is found for both: by a judge, later.
int asks_the_arbiter() {
  MpiOptions options;
  options.cause = std::make_shared<FirstCause>();
  std::thread judge;
  options.cause->set_arbiter([&](const std::string& suspicion) {
    if (judge.joinable()) return;
    judge = std::thread([&, suspicion] {
      std::this_thread::sleep_for(200ms);
      options.cause->record("judged: " + suspicion);
    });
  });
  const auto comm = make_mpi_communicator(options);
  comm->set_timeout(300ms);
  const auto result = report([&] { comm->receive(at::ones({7}), 1 - comm->rank()).wait(); });
  if (judge.joinable()) judge.join();
  return result;
}

/// Ranks that disagree on the length of a sum.
int sums_of_two_lengths() {
  const auto comm = make_mpi_communicator(kStart);
  comm->set_timeout(5s);
  return report([&] { comm->allreduce(at::ones({100'000 + 8 * comm->rank()})).wait(); });
}

/// The first message is whole on both sides, so that only the end can tell.
int exchanges_of_two_lengths() {
  MpiOptions options;
  options.tuning.emplace().segment_bytes = 4 << 10;
  const auto comm = make_mpi_communicator(options);
  comm->set_timeout(5s);
  const int64_t sent = 1 << 10;
  const int64_t expected = comm->rank() == 0 ? 2 * sent : sent;
  std::vector<int64_t> input_rows{0, 0};
  std::vector<int64_t> output_rows{0, 0};
  input_rows[1 - comm->rank()] = sent;
  output_rows[1 - comm->rank()] = expected;
  return report([&] {
    comm->all_to_all(at::ones({expected}), at::ones({sent}), output_rows, input_rows).wait();
  });
}

void use(Communicator& comm) {
  auto buffer = at::ones({7});
  comm.allreduce(buffer).wait();
  if (buffer[0].item<float>() != static_cast<float>(comm.size())) std::_Exit(4);
}

int initialised_at_single() {
  int level = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SINGLE, &level);
  const int result = report([] { make_mpi_communicator(kStart); });
  MPI_Finalize();
  return result == 3 ? 0 : 1;
}

int initialised_at_multiple() {
  int level = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level);
  use(*make_mpi_communicator(kStart));
  MPI_Finalize();
  return report([] { make_mpi_communicator(kStart); }) == 3 ? 0 : 1;
}

/// The communicators go after MPI has.
int finalises_first() {
  const auto comm = make_mpi_communicator(kStart);
  const auto part = comm->split(0, 0);
  use(*part);
  MPI_Finalize();
  return 0;
}

int initialises_and_finalises_first() {
  int level = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level);
  return finalises_first();
}

int finalises_at_once_after() {
  for (int i = 0; i < 5; ++i) use(*make_mpi_communicator(kStart)->split(0, 0));
  MPI_Finalize();
  return 0;
}

int finalises_first_under_control() {
  const auto comm = make_communicator({.backend = "mpi", .timeout = kStart});
  use(*comm);
  MPI_Finalize();
  return 0;
}

int finalises_and_goes_on() {
  const auto comm = make_mpi_communicator(kStart);
  MPI_Finalize();
  return report([&] { use(*comm); }) == 3 ? report([&] { comm->split(0, 0); }) : 1;
}

int forks_helpers() {
  auto comm = make_communicator({.backend = "mpi", .timeout = kStart});
  const auto wrong = test::what_children_do(comm);
  std::printf("%s\n", wrong.c_str());
  return wrong.empty() ? 0 : 1;
}

int initialised_at_serialized() {
  int level = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level);
  use(*make_mpi_communicator(kStart)->split(0, 0));
  MPI_Finalize();
  return 0;
}

int static_communicator() {
  static_world = make_mpi_communicator(kStart);
  use(*static_world);
  return 0;
}

int drops_its_last_work() {
  const auto comm = make_mpi_communicator(kStart);
  if (comm->rank() == 0) std::this_thread::sleep_for(100ms);
  [[maybe_unused]] const auto dropped = comm->allreduce(at::ones({100'000}));
  return 0;
}

int makes_worlds_in_turn() {
  for (int i = 0; i < 30; ++i) use(*make_mpi_communicator(kStart)->split(0, 0));
  return 0;
}

const std::map<std::string, int (*)()> kPrograms{
    {"never_starts", never_starts},
    {"never_starts_and_returns", never_starts_and_returns},
    {"never_joins", never_joins},
    {"never_joins_and_returns", never_joins_and_returns},
    {"fails_in_a_group", fails_in_a_group},
    {"receives_too_much", receives_too_much},
    {"receives_too_little", receives_too_little},
    {"is_told_of_a_failure", is_told_of_a_failure},
    {"asks_the_arbiter", asks_the_arbiter},
    {"sums_of_two_lengths", sums_of_two_lengths},
    {"exchanges_of_two_lengths", exchanges_of_two_lengths},
    {"initialised_at_single", initialised_at_single},
    {"initialised_at_multiple", initialised_at_multiple},
    {"finalises_first", finalises_first},
    {"initialises_and_finalises_first", initialises_and_finalises_first},
    {"finalises_at_once_after", finalises_at_once_after},
    {"finalises_first_under_control", finalises_first_under_control},
    {"finalises_and_goes_on", finalises_and_goes_on},
    {"forks_helpers", forks_helpers},
    {"initialised_at_serialized", initialised_at_serialized},
    {"static_communicator", static_communicator},
    {"drops_its_last_work", drops_its_last_work},
    {"makes_worlds_in_turn", makes_worlds_in_turn},
};

}  // namespace

int main(int, char** argv) { return kPrograms.at(argv[1])(); }
