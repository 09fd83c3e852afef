// SPDX-License-Identifier: Apache-2.0
#include "bench/kernels/kernels.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace isobar::bench {
namespace {

/// SplitMix64: bits of a number that look drawn.
uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

const char* type_name(c10::ScalarType type) { return type == at::kFloat ? "float32" : "bfloat16"; }

}  // namespace

const char* name_of(Place place) { return place == Place::cache ? "cache" : "memory"; }

void Kernels::add(const std::string& name, Place place, const std::function<Kernel()>& make) {
  if (extent_ == Extent::quick && place == Place::memory) return;
  const auto row = fmt::format("{}/{}", name, name_of(place));
  auto* timed =
      benchmark::RegisterBenchmark(row.c_str(), [this, row, place, make](benchmark::State& state) {
        // The function is called for every repetition and every guess of how many calls take long.
        if (current_ != row) {
          kernel_ = {};
          kernel_ = make();
          kernel_.call();
          error_ = kernel_.error();
          current_ = row;
        }
        if (!(error_ <= kernel_.tolerance)) {
          ++wrong_;
          state.SkipWithError(fmt::format("differs from the plain loop by {:.3g}, more than {:.3g}",
                                          error_, kernel_.tolerance)
                                  .c_str());
          return;
        }
        const double start = now_s();
        for ([[maybe_unused]] auto _ : state) kernel_.call();
        const double call_s = (now_s() - start) / static_cast<double>(state.iterations());
        const double bytes_s = kernel_.bytes / call_s;
        const double operations_s = kernel_.operations / call_s;
        state.counters["call_us"] = 1e6 * call_s;
        state.counters["bytes_s"] = bytes_s;
        state.counters["of_triad"] =
            bytes_s / (place == Place::cache ? roofs_.cache_bytes_s : roofs_.memory_bytes_s);
        state.counters["operations_s"] = operations_s;
        state.counters["of_gemm"] = operations_s / roofs_.operations_s;
        state.counters["error"] = error_;
      });
  timed->Unit(benchmark::kMicrosecond);
  if (at::get_num_threads() > 1) timed->UseRealTime();
}

void Kernels::add_typed(const std::string& name,
                        const std::function<Kernel(c10::ScalarType type, Place place)>& make) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const Place place : {Place::cache, Place::memory}) {
      add(fmt::format("{}/{}", name, type_name(type)), place, [=] { return make(type, place); });
    }
  }
}

at::Tensor values(at::IntArrayRef sizes, c10::ScalarType type, uint64_t seed) {
  const at::Tensor result = at::empty(sizes, at::kFloat);
  auto* data = result.mutable_data_ptr<float>();
  for (int64_t i = 0; i < result.numel(); ++i) {
    data[i] = static_cast<float>(
                  static_cast<int64_t>(mixed((seed << 40) ^ static_cast<uint64_t>(i)) >> 40) -
                  (1 << 23)) /
              static_cast<float>(1 << 23);
  }
  return result.to(type);
}

at::Tensor indices(int64_t count, int64_t end, uint64_t seed) {
  const at::Tensor result = at::empty({count}, at::kLong);
  auto* data = result.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    data[i] = static_cast<int64_t>(mixed((seed << 40) ^ static_cast<uint64_t>(i)) %
                                   static_cast<uint64_t>(end));
  }
  return result;
}

at::Tensor zeros(at::IntArrayRef sizes, c10::ScalarType type) { return at::zeros(sizes, type); }

std::vector<double> plain(const at::Tensor& tensor) {
  const at::Tensor wide = tensor.to(at::kDouble).contiguous();
  const auto* data = wide.const_data_ptr<double>();
  return {data, data + wide.numel()};
}

std::vector<int64_t> plain_indices(const at::Tensor& tensor) {
  const auto* data = tensor.const_data_ptr<int64_t>();
  return {data, data + tensor.numel()};
}

std::vector<double> plain_product(const at::Tensor& a, const at::Tensor& b) {
  const auto left = plain(a), right = plain(b);
  const int64_t rows = a.size(0), depth = a.size(1), columns = b.size(1);
  std::vector<double> product(rows * columns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < columns; ++j) {
        product[i * columns + j] += left[i * depth + k] * right[k * columns + j];
      }
    }
  }
  return product;
}

double deviation(const at::Tensor& got, const std::vector<double>& wanted) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto found = plain(got);
  if (found.size() != wanted.size()) return kInfinity;
  double largest = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(found[i]) && std::isnan(wanted[i])) continue;
    const double error = std::abs(found[i] - wanted[i]) / std::max(1.0, std::abs(wanted[i]));
    if (std::isnan(error)) return kInfinity;
    largest = std::max(largest, error);
  }
  return largest;
}

double tolerance_of(c10::ScalarType type) { return type == at::kFloat ? 1e-5 : 0.0079; }

}  // namespace isobar::bench
