// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/step_arguments.hpp>

#include <isobar/bench/collective_arguments.hpp>
#include <isobar/bench/gnn_workload.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include <algorithm>
#include <cctype>

namespace isobar::bench {

int64_t parse_bucket_cap(const std::string& text) {
  ISOBAR_CHECK(text != "auto", "buckets are not tuned yet: 'auto' is no size; give 25MiB");
  const auto bytes = parse_bytes(text);
  ISOBAR_CHECK(bytes && *bytes > 0, "'", text, "' is no size; write 25MiB");
  const bool has_unit = std::any_of(text.begin(), text.end(),
                                    [](unsigned char letter) { return std::isalpha(letter) != 0; });
  ISOBAR_CHECK(has_unit || *bytes >= 1024, "'", text, "' is ", text, " bytes; write ", text,
               "MiB, or ", text, "B if you mean that");
  return *bytes;
}

StepOptions step_options(const StepArguments& arguments) {
  return {.warmup = arguments.warmup, .repeats = parse_repeats(arguments.repeats)};
}

MakeWorkload choose_workload(const StepArguments& arguments, int rank) {
  ISOBAR_CHECK(arguments.model == "mlp" || arguments.emulate_ms == 0,
               "--emulate-ms is of --model mlp, got --model ", arguments.model);
  if (arguments.model == "gnn") return make_gnn_workload(arguments, rank);
  ISOBAR_CHECK(arguments.precision == "float32" && arguments.chunk_edges == 0,
               "--precision and --chunk-edges are of --model gnn, got --model ", arguments.model);
  auto options = arguments.linear_stack();
  options.device = rank_device(arguments.device);
  return [options, rank] { return make_linear_stack(options, rank); };
}

}  // namespace isobar::bench
