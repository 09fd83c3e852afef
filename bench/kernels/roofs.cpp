// SPDX-License-Identifier: Apache-2.0
// The two roofs by LibTorch's operations, whose threads are the kernels' own: an addition is
// vectorised as the triad is, a product is MKL's.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <string>

#include "bench/kernels/kernels.hpp"

namespace isobar::bench {
namespace {

double seconds_of(const std::function<void()>& call) {
  const double start = now_s();
  call();
  return now_s() - start;
}

/// Of the best of several spans of `span_s`, each of as many calls as that takes.
double calls_a_second(const std::function<void()>& call, double span_s) {
  call();
  const auto repeats = std::max<int64_t>(1, static_cast<int64_t>(span_s / seconds_of(call)));
  double best = 0;
  for (int span = 0; span < 5; ++span) {
    const double taken = seconds_of([&] {
      for (int64_t i = 0; i < repeats; ++i) call();
    });
    best = std::max(best, static_cast<double>(repeats) / taken);
  }
  return best;
}

/// a = b + scalar · c, as STREAM counts it: three arrays of float32, each once.
double triad_bytes_s(int64_t count, double span_s) {
  const at::Tensor b = values({count}, at::kFloat, 1), c = values({count}, at::kFloat, 2);
  at::Tensor a = zeros({count}, at::kFloat);
  return 12.0 * static_cast<double>(count) *
         calls_a_second([&] { at::add_out(a, b, c, 3); }, span_s);
}

double product_operations_s(int64_t side, double span_s) {
  const at::Tensor b = values({side, side}, at::kFloat, 1), c = values({side, side}, at::kFloat, 2);
  at::Tensor a = zeros({side, side}, at::kFloat);
  const auto n = static_cast<double>(side);
  return 2 * n * n * n * calls_a_second([&] { at::mm_out(a, b, c); }, span_s);
}

}  // namespace

double now_s() {
  if (at::get_num_threads() == 1) {
    timespec ran{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran);
    return static_cast<double>(ran.tv_sec) + 1e-9 * static_cast<double>(ran.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Roofs measure_roofs(Kernels::Extent extent) {
  const bool quick = extent == Kernels::Extent::quick;
  const double span_s = quick ? 0.005 : 0.2;
  Roofs roofs;
  roofs.cache_bytes_s = triad_bytes_s(rows_of(Place::cache) * kWidth, span_s);
  // Four times the largest rows, 128 MiB each: beyond any processor's last cache.
  if (!quick) roofs.memory_bytes_s = triad_bytes_s(4 * rows_of(Place::memory) * kWidth, span_s);
  roofs.operations_s = product_operations_s(quick ? 512 : 2048, span_s);
  return roofs;
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    return line.substr(line.find(':') + 2) + ", " + at::get_cpu_capability();
  }
  return "unknown, " + at::get_cpu_capability();
}

}  // namespace isobar::bench
