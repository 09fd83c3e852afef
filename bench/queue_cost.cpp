// SPDX-License-Identifier: Apache-2.0
// What isobar's queue costs over the bare call: a tiny collective through isobar and through the
// library under it, alternated in one process over the same ranks.
//   mpirun -n 4 queue_cost --backend mpi --op allreduce
//   mpirun -n 4 queue_cost --backend gloo --op barrier --address 10.0.0.1
#include <isobar/bench/communicator_subject.hpp>
#include <isobar/bench/measure.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/stopwatch.hpp>
#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "bench/baselines/gloo_subject.hpp"
#include "bench/baselines/mpi_subject.hpp"

namespace isobar::bench {
namespace {

constexpr int64_t kBytes = 4;
constexpr int kWarmup = 50;

struct QueueArguments {
  std::string backend = "mpi";
  std::string op = "allreduce";
  std::string address = "127.0.0.1";
  int repeats = 1000;
  std::string json;
  std::vector<std::string> command;
};

/// A port that is free now; 0 where the system gives none.
int find_free_port() {
  const int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  socklen_t length = sizeof(any);
  auto* address = reinterpret_cast<sockaddr*>(&any);
  const bool bound = bind(tcp, address, length) == 0 && getsockname(tcp, address, &length) == 0;
  close(tcp);
  return bound ? ntohs(any.sin_port) : 0;
}

/// The bare call under `queued`, in the same process.
std::unique_ptr<Subject> make_bare(Subject& queued, const QueueArguments& arguments) {
  const auto op = parse_collective(arguments.op);
  if (queued.backend() == "mpi") return make_mpi_subject({.op = op});
  ISOBAR_CHECK(queued.backend() == "gloo", "queue_cost: no bare call is known for backend ",
               queued.backend(), "; choose mpi or gloo, and two ranks or more");
  const auto port = queued.gather(std::to_string(find_free_port())).front();
  return make_gloo_subject({.op = op,
                            .rank = queued.rank(),
                            .size = queued.size(),
                            .address = arguments.address,
                            .port = std::atoi(port.c_str())});
}

/// One side of the comparison, with buffers of its own.
class Side {
 public:
  Side(Subject& subject, Collective op)
      : subject_(subject),
        values_(op, at::kFloat, subject.rank(), subject.size()),
        flight_{values_.make_buffers(kBytes, at::kCPU)} {}

  double time() {
    const Stopwatch watch;
    subject_.start(flight_);
    subject_.wait();
    return watch.elapsed_s();
  }

  double deviation(int round) {
    values_.fill(flight_.front(), round);
    time();
    const double off = values_.deviation(flight_.front(), round);
    values_.settle(flight_.front());
    return off;
  }

 private:
  Subject& subject_;
  ExactValues values_;
  std::vector<Buffers> flight_;
};

struct Pairs {
  std::vector<double> queued_s;
  std::vector<double> bare_s;
  double error = 0;
};

/// Each side goes first in every other pair. Each call begins at a barrier of its own side: behind
/// the other's, this one's threads and connections would have slept longer.
Pairs measure_pairs(Subject& queued, Subject& bare, const QueueArguments& arguments) {
  const auto op = parse_collective(arguments.op);
  Side queued_side(queued, op), bare_side(bare, op);
  Pairs pairs;
  pairs.error = std::max(queued_side.deviation(1), bare_side.deviation(1));
  for (int i = -kWarmup; i < arguments.repeats; ++i) {
    double queued_s = 0, bare_s = 0;
    for (const bool is_queued : {i % 2 == 0, i % 2 != 0}) {
      (is_queued ? queued : bare).barrier();
      (is_queued ? queued_s : bare_s) = is_queued ? queued_side.time() : bare_side.time();
    }
    if (i < 0) continue;
    pairs.queued_s.push_back(queued_s);
    pairs.bare_s.push_back(bare_s);
  }
  const double after = std::max(queued_side.deviation(2), bare_side.deviation(2));
  pairs.error = largest_over_ranks(queued, {std::max(pairs.error, after)}).front();
  pairs.queued_s = largest_over_ranks(queued, pairs.queued_s);
  pairs.bare_s = largest_over_ranks(queued, pairs.bare_s);
  return pairs;
}

nlohmann::json make_row(const Subject& queued, const Subject& bare, const std::string& op,
                        const Pairs& pairs) {
  std::vector<double> differences_us;
  for (std::size_t i = 0; i < pairs.bare_s.size(); ++i)
    differences_us.push_back(1e6 * (pairs.queued_s[i] - pairs.bare_s[i]));
  const auto queue_us = summarize(differences_us);
  return {{"op", op},
          {"backend", queued.backend()},
          {"bare", bare.backend()},
          {"ranks", queued.size()},
          {"bytes", op == "barrier" ? 0 : kBytes},
          {"repeats", queue_us.count},
          {"median_s", summarize(pairs.queued_s).median},
          {"bare_median_s", summarize(pairs.bare_s).median},
          {"queue_us", queue_us.median},
          {"queue_low_us", queue_us.interval_low},
          {"queue_high_us", queue_us.interval_high},
          {"error", pairs.error}};
}

int run(const QueueArguments& arguments) {
  at::set_num_threads(1);
  const auto comm = make_communicator({.backend = arguments.backend});
  const auto queued = make_communicator_subject(*comm, parse_collective(arguments.op));
  const auto bare = make_bare(*queued, arguments);
  const auto pairs = measure_pairs(*queued, *bare, arguments);
  const auto row = make_row(*queued, *bare, arguments.op, pairs);
  if (queued->rank() == 0) {
    if (arguments.json != "-") {
      fmt::print(
          "{} on {} ranks: {} {:.1f} us, {} {:.1f} us; the queue costs {:.1f} us "
          "({:.1f} to {:.1f}, {} pairs), error {}\n",
          arguments.op, queued->size(), queued->backend(), 1e6 * row["median_s"].get<double>(),
          bare->backend(), 1e6 * row["bare_median_s"].get<double>(), row["queue_us"].get<double>(),
          row["queue_low_us"].get<double>(), row["queue_high_us"].get<double>(),
          row["repeats"].get<int>(), pairs.error);
    }
    write_report(arguments.json, "isobar.bench.queue.1", arguments.command,
                 nlohmann::json::array({row}));
  }
  bare->barrier();
  return pairs.error == 0 ? 0 : 1;
}

}  // namespace
}  // namespace isobar::bench

int main(int argc, char** argv) {
  isobar::bench::QueueArguments arguments;
  arguments.command.assign(argv, argv + argc);
  if (const char* address = std::getenv("MASTER_ADDR")) arguments.address = address;
  CLI::App app{"What isobar's queue costs over the bare call"};
  app.add_option("--backend", arguments.backend, "mpi or gloo");
  app.add_option("--op", arguments.op, "which collective, of 4 bytes")
      ->check(CLI::IsMember({"allreduce", "barrier"}));
  app.add_option("--address", arguments.address, "where rank 0 is found, for bare Gloo");
  app.add_option("--repeats", arguments.repeats, "pairs")->check(isobar::check_positive);
  app.add_option("--json", arguments.json, "write the row there; - is standard output")
      ->check(isobar::check_report_file);
  try {
    app.parse(argc, argv);
    return isobar::bench::run(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    std::fprintf(stderr, "queue_cost: error: %s\n", text.substr(0, text.find('\n')).c_str());
    std::fflush(nullptr);
    std::_Exit(1);
  }
}
