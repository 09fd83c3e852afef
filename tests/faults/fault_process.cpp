// SPDX-License-Identifier: Apache-2.0
// One rank that does collectives until something fails, then says what and when as a line of JSON.
//
//   fault_process BACKEND SILENCE_MS [FAULT RANK]
//
// FAULT is what RANK does wrong after a while: size, operation, type, leave, throw. With survive
// RANK is lost from outside, and the others go on without it if they can.
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

namespace {

using namespace isobar;

constexpr int64_t kWarmUp = 20;
constexpr int64_t kFaulty = 60;

struct Fault {
  std::string what;
  int rank = -1;
};

double now_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

void say(nlohmann::json line) {
  line["time_s"] = now_s();
  line["pid"] = getpid();
  const auto text = line.dump() + "\n";
  if (write(STDOUT_FILENO, text.data(), text.size()) < 0) std::_Exit(9);
}

Work all_to_all(Communicator& comm, int64_t count) {
  const auto rows = count / comm.size() + 1;
  const std::vector<int64_t> each(static_cast<size_t>(comm.size()), rows);
  return comm.all_to_all(at::empty({rows * comm.size()}), at::ones({rows * comm.size()}), each,
                         each);
}

/// The `number`-th collective, which is the same on all ranks.
Work collective(Communicator& comm, int64_t number, int64_t more = 0) {
  std::minstd_rand random(static_cast<unsigned>(number) * 7919 + 17);
  random.discard(8);
  const auto kind = random() % 6;
  const auto count = (int64_t{1} << (random() % 21)) + static_cast<int64_t>(random() % 7) + more;
  switch (kind) {
    case 0:
      return comm.reduce_scatter(at::empty({count}), at::ones({count * comm.size()}));
    case 1:
      return comm.all_gather(at::empty({count * comm.size()}), at::ones({count}));
    case 2:
      return all_to_all(comm, count);
    case 3:
      return comm.broadcast(at::ones({count}), static_cast<int>(number % comm.size()));
    case 4:
      return comm.barrier();
    default:
      return comm.allreduce(at::ones({count}));
  }
}

Work faulty(Communicator& comm, int64_t number, const std::string& what) {
  if (what == "size") return comm.allreduce(at::ones({1000}));
  if (what == "operation")
    return comm.all_gather(at::empty({2000 * comm.size()}), at::ones({2000}));
  if (what == "type") return comm.allreduce(at::ones({1000}, at::kDouble));
  if (what == "throw") throw DataError("era5.nc: no variable 't2m'");
  return collective(comm, number);
}

void run(Communicator& comm, const Fault& fault) {
  for (int64_t number = 0;; ++number) {
    if (number == kWarmUp) say({{"ready", comm.rank()}, {"backend", comm.backend()}});
    const bool is_faulty = number == kFaulty && !fault.what.empty();
    if (is_faulty && comm.rank() == fault.rank && fault.what == "leave") return;
    auto work = is_faulty && comm.rank() == fault.rank ? faulty(comm, number, fault.what)
                : is_faulty                            ? comm.allreduce(at::ones({2000}))
                                                       : collective(comm, number);
    work.wait();
  }
}

/// The survivors' world: where this rank is in it, and whether its sums are right.
nlohmann::json go_on(const CommunicatorOptions& options) {
  const auto comm = make_survivors_communicator(options, {.expected = 3});
  bool is_right = true;
  for (int64_t count = 1; count <= 100'000; count *= 10) {
    auto buffer = at::full({count}, 1.0F + static_cast<float>(comm->rank()));
    comm->allreduce(buffer).wait();
    const auto sum = static_cast<float>(comm->size() * (comm->size() + 1)) / 2;
    is_right = is_right && at::equal(buffer, at::full({count}, sum));
  }
  comm->barrier().wait();
  return {{"new_rank", comm->rank()}, {"new_size", comm->size()}, {"right", is_right}};
}

nlohmann::json try_to_go_on(CommunicatorOptions options) {
  options.start_timeout = std::chrono::seconds(5);
  try {
    return go_on(options);
  } catch (const std::exception& error) {
    return {{"no_way_on", error.what()}};
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 5) return 2;
  const Fault fault{argc == 5 ? argv[3] : "", argc == 5 ? std::atoi(argv[4]) : -1};
  at::set_num_threads(1);
  int rank = -1;
  const CommunicatorOptions options{.backend = argv[1],
                                    .timeout = std::chrono::seconds(60),
                                    .silence_limit = std::chrono::milliseconds(std::atoi(argv[2]))};
  try {
    const auto comm = make_communicator(options);
    rank = comm->rank();
    try {
      run(*comm, fault);
    } catch (const CommError&) {
      throw;
    } catch (const std::exception& error) {
      comm->abort(error.what());
      throw;
    }
  } catch (const std::exception& error) {
    nlohmann::json line{{"rank", rank}, {"error", error.what()}};
    if (fault.what == "survive") line.update(try_to_go_on(options));
    say(line);
    // The launcher ends those that are late, so nobody leaves before all have had the time to say.
    sleep(2);
    std::_Exit(3);
  }
  say({{"rank", rank}, {"error", ""}});
  sleep(2);
  return 0;
}
