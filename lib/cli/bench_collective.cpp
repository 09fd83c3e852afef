// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_collective.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

#include "bench/harness/run_bench.hpp"
#include "cli/bench_subject.hpp"

namespace isobar {

void add_bench_collective_options(CLI::App& app, BenchCollectiveArguments& arguments) {
  bench::add_options(app, arguments.common);
  app.add_option("--backend", arguments.backend, "a backend of comm.backend; auto chooses");
  app.add_option("--device", arguments.common.device, "where the tensors are")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_flag("--deterministic", arguments.deterministic,
               "the same bits whatever the backend and the layout of nodes");
  app.add_option("--levels", arguments.levels, "flat, node (inside nodes first), or auto")
      ->check(CLI::IsMember({"auto", "flat", "node"}));
}

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
      make_communicator_subject(*comm, bench::parse_collective(arguments.common.op));
  return bench::run_bench(*subject, arguments.common, device);
}

}  // namespace isobar
