// SPDX-License-Identifier: Apache-2.0
#include "bench/programs/collective_program.hpp"
#include "cli/command.hpp"

#include <isobar/bench/collective_arguments.hpp>
#include <isobar/bench/communicator_subject.hpp>
#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

#include <string>

namespace isobar {
namespace {

struct BenchCollectiveArguments {
  bench::CollectiveArguments common;
  std::string backend = "auto";
  bool deterministic = false;
  std::string levels = "auto";
};

void add_bench_collective_options(CLI::App& app, BenchCollectiveArguments& arguments) {
  add_collective_options(app, arguments.common);
  app.add_option("--backend", arguments.backend,
                 "auto, nccl, mpi, gloo, shm or self; auto chooses");
  app.add_option("--device", arguments.common.device, "where the tensors lie")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_flag("--deterministic", arguments.deterministic,
               "add up so that the bits are the same whatever the backend and the nodes");
  app.add_option("--levels", arguments.levels,
                 "an allreduce goes over all ranks at once, inside nodes first, or as measured")
      ->check(CLI::IsMember({"auto", "flat", "node"}));
}

/// Measures one collective and prints a table. Returns the exit code: 0 if every
/// result was right.
int run_bench_collective(const BenchCollectiveArguments& arguments) {
  // Work that a backend leaves to LibTorch's pool would not be seen as the backend's.
  at::set_num_threads(1);
  const auto comm = make_communicator({.backend = arguments.backend,
                                       .device = arguments.common.device,
                                       .deterministic = arguments.deterministic,
                                       .levels = arguments.levels});
  at::Device device = at::kCPU;
  run_agreed(*comm, [&] { device = rank_device(arguments.common.device); });
  const auto subject =
      bench::make_communicator_subject(*comm, bench::parse_collective(arguments.common.op));
  return run_collective(*subject, arguments.common, device);
}

const RegisteredCommand kBenchCollective{
    {.place = 50,
     .group = "bench",
     .name = "collective",
     .description = "Time a collective operation, and check its result",
     .example = "mpirun -n 4 isobar bench collective --op allreduce --bytes 64KiB..64MiB",
     .add = with_arguments(add_bench_collective_options, run_bench_collective)}};

}  // namespace
}  // namespace isobar
