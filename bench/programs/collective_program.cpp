// SPDX-License-Identifier: Apache-2.0
#include "bench/programs/collective_program.hpp"

#include <isobar/bench/collective_rows.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace isobar {

void add_collective_options(CLI::App& app, bench::CollectiveArguments& arguments) {
  app.add_option("--op", arguments.op,
                 "allreduce, reduce_scatter, all_gather, all_to_all, broadcast, barrier or "
                 "send_receive")
      ->check(checked_by(bench::parse_collective));
  app.add_option("--bytes", arguments.bytes,
                 "bytes a rank: 1MiB,4MiB or 64KiB..64MiB (by 2) or 64KiB..64MiBx4 (by 4)")
      ->check(checked_by(bench::parse_sizes));
  app.add_option("--type", arguments.type, "float32, float64, bfloat16, float16, int32 or int64")
      ->check(checked_by(bench::parse_type));
  app.add_option("--repeats", arguments.repeats,
                 "timed repeats; auto: as many as take a second, 10 at least")
      ->check(checked_by(bench::parse_repeats));
  app.add_option("--warmup", arguments.warmup, "repeats before the timed ones")
      ->check(check_not_negative);
  app.add_option("--in-flight", arguments.in_flight,
                 "collectives started before the first is waited for")
      ->check(check_positive);
  app.add_option("--stream-seconds", arguments.stream_s,
                 "seconds of each plain TCP stream to compare with; 0 for none")
      ->check(check_not_negative);
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

int run_collective(bench::Subject& subject, const bench::CollectiveArguments& arguments,
                   const at::Device& device) {
  const auto stream = bench::measure_plain_stream(subject, arguments.stream_s);
  const auto rows = bench::collective_rows(subject, arguments, stream, device);
  if (subject.rank() == 0) {
    if (subject.size() == 1) std::fputs(bench::kAlone, stderr);
    if (!stream.problem.empty()) std::fprintf(stderr, "%s\n", stream.problem.c_str());
    if (arguments.json != "-") std::fputs(bench::collective_table(rows).c_str(), stdout);
    write_report(arguments.json, "isobar.bench.collective.1", arguments.command, rows);
  }
  // What one rank serves to the others (a store, MPI's connections) goes with its program.
  subject.barrier();
  const bool right =
      std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row["error"] == 0; });
  return right ? 0 : 1;
}

}  // namespace isobar
