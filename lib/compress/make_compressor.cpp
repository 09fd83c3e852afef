// SPDX-License-Identifier: Apache-2.0
#include <isobar/compress/make_compressor.hpp>

#include <isobar/compress/acp_sgd.hpp>
#include <isobar/compress/block_int8.hpp>
#include <isobar/compress/half_precision.hpp>
#include <isobar/compress/power_sgd.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace isobar {
namespace {

struct Method {
  const char* name;
  std::shared_ptr<Compressor> (*make)(const CompressionOptions& options);
};

std::shared_ptr<Compressor> make_half(const CompressionOptions& options, HalfType type) {
  return make_half_precision({.type = type, .start_step = options.low_rank.start_step});
}

constexpr std::array kMethods{
    Method{"none", [](const CompressionOptions&) { return std::shared_ptr<Compressor>(); }},
    Method{"bf16", [](const CompressionOptions& o) { return make_half(o, HalfType::bfloat16); }},
    Method{"fp16", [](const CompressionOptions& o) { return make_half(o, HalfType::float16); }},
    Method{"int8",
           [](const CompressionOptions& o) {
             return make_block_int8({.start_step = o.low_rank.start_step});
           }},
    Method{"acp_sgd", [](const CompressionOptions& o) { return make_acp_sgd(o.low_rank); }},
    Method{"power_sgd", [](const CompressionOptions& o) { return make_power_sgd(o.low_rank); }},
};

}  // namespace

std::vector<std::string> compression_methods() {
  std::vector<std::string> names;
  for (const auto& method : kMethods) names.emplace_back(method.name);
  return names;
}

std::shared_ptr<Compressor> make_compressor(const CompressionOptions& options) {
  const auto found = std::find_if(kMethods.begin(), kMethods.end(), [&](const Method& method) {
    return method.name == options.method;
  });
  ISOBAR_CHECK(found != kMethods.end(), "compress: no method '", options.method, "'; ",
               did_you_mean(options.method, compression_methods()));
  return found->make(options);
}

at::ScalarType type_summed(const CompressionOptions& options) {
  if (options.method == "bf16") return at::kBFloat16;
  return options.method == "fp16" ? at::kHalf : at::kFloat;
}

std::string name_of(const CompressionOptions& options) {
  const bool has_rank = options.method == "acp_sgd" || options.method == "power_sgd";
  if (!has_rank) return options.method;
  return fmt::format("{} rank {}", options.method, options.low_rank.matrix_approximation_rank);
}

std::string describe_saving(const CompressionOptions& options, const ReducerCounters& counters,
                            int replicas) {
  if (counters.compressed_steps == 0) {
    const auto why =
        replicas == 1 ? std::string("there is one replica of the model, whose gradients go nowhere")
                      : fmt::format("compress.start_step is {}, the first step that is compressed",
                                    options.low_rank.start_step);
    return fmt::format("{}: none of {} steps compressed: {}", options.method, counters.steps, why);
  }
  const double times =
      static_cast<double>(counters.gradient_bytes) / static_cast<double>(counters.payload_bytes);
  return fmt::format(
      "{}: {} of {} steps compressed; payload {} instead of {} ({:.3g} times less{})",
      options.method, counters.compressed_steps, counters.steps,
      format_bytes(counters.payload_bytes), format_bytes(counters.gradient_bytes), times,
      times < 1.01 ? ": no parameter has a shape that pays at this min_compression_rate" : "");
}

}  // namespace isobar
