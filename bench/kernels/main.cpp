// SPDX-License-Identifier: Apache-2.0
// kernel_bench [--quick] [--wrong] [Google Benchmark's options]: times what isobar computes itself
// beside what the machine can do. Exit code 1 where a kernel differs from the plain loop, 2 for
// wrong usage. --quick leaves out data beyond the cache; --wrong adds a row that is wrong, to see
// it found.
#include <isobar/core/version.hpp>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "bench/kernels/kernels.hpp"

namespace {

/// Takes `flag` out of the arguments.
bool take(int& argc, char** argv, std::string_view flag) {
  char** const end = argv + argc;
  argc = static_cast<int>(std::remove(argv + 1, end, flag) - argv);
  return argv + argc != end;
}

isobar::bench::Kernel make_wrong() {
  return {
      .bytes = 1,
      .operations = 1,
      .call = [] {},
      .error = [] { return isobar::bench::deviation(isobar::bench::zeros({1}, at::kFloat), {1}); },
      .tolerance = 0};
}

void say(const char* key, const std::string& value) { benchmark::AddCustomContext(key, value); }

}  // namespace

int main(int argc, char** argv) {
  using namespace isobar::bench;
  const auto extent = take(argc, argv, "--quick") ? Kernels::Extent::quick : Kernels::Extent::all;
  const bool wrong = take(argc, argv, "--wrong");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;

  const Roofs roofs = measure_roofs(extent);
  say("processor", processor());
  say("commit", isobar::commit());
  say("threads", std::to_string(at::get_num_threads()));
  say("triad_cache_gbyte_s", fmt::format("{:.1f}", roofs.cache_bytes_s * 1e-9));
  say("triad_memory_gbyte_s", fmt::format("{:.1f}", roofs.memory_bytes_s * 1e-9));
  say("gemm_gflop_s", fmt::format("{:.1f}", roofs.operations_s * 1e-9));

  Kernels kernels(roofs, extent);
  add_products(kernels);
  add_segments(kernels);
  add_gather_gelu(kernels);
  add_layer_norm(kernels);
  add_low_rank(kernels);
  add_block_int8(kernels);
  add_unpacking(kernels);
  add_reduce(kernels);
  if (wrong) kernels.add("wrong", Place::cache, make_wrong);
  if (benchmark::RunSpecifiedBenchmarks() == 0) return 2;
  return kernels.wrong() == 0 ? 0 : 1;
}
