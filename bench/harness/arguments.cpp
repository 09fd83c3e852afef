// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/arguments.hpp"

#include <isobar/core/error.hpp>
#include <CLI/CLI.hpp>

#include <charconv>

#include "bench/harness/option_check.hpp"
#include "bench/harness/values.hpp"

namespace isobar::bench {

int parse_repeats(const std::string& text) {
  if (text == "auto") return 0;
  int repeats = 0;
  const auto end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, repeats);
  ISOBAR_CHECK(error == std::errc() && rest == end && repeats > 0, "'", text,
               "' is no number of repeats; write 20 or auto");
  return repeats;
}

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("--op", arguments.op,
                 "allreduce, reduce_scatter, all_gather, all_to_all, broadcast, barrier or "
                 "send_receive")
      ->check(checked_by(parse_collective));
  app.add_option("--bytes", arguments.bytes,
                 "sizes a rank: 1MiB,4MiB or 64KiB..64MiB (by 2) or 64KiB..64MiBx4 (by 4)")
      ->check(checked_by(parse_sizes));
  app.add_option("--type", arguments.type, "float32, float64, bfloat16, float16, int32 or int64")
      ->check(checked_by(parse_type));
  app.add_option("--repeats", arguments.repeats,
                 "timed repeats; auto: as many as take a second, 10 at least")
      ->check(checked_by(parse_repeats));
  app.add_option("--warmup", arguments.warmup, "repeats before the timed ones")
      ->check(check_not_negative);
  app.add_option("--in-flight", arguments.in_flight, "collectives issued together")
      ->check(check_positive);
  app.add_option("--stream-seconds", arguments.stream_s,
                 "length of each plain TCP stream beside it; 0 for none")
      ->check(check_not_negative);
  app.add_option("--json", arguments.json, "write the rows there; - is standard output");
}

}  // namespace isobar::bench
