// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/run_bench.hpp"

#include <isobar/core/progress.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

#include "bench/harness/measure.hpp"
#include "bench/harness/plain_stream.hpp"
#include "cli/report.hpp"

namespace isobar::bench {
namespace {

using nlohmann::json;

json positive_or_null(double value) { return value > 0 ? json(value) : json(); }

json make_row(const Subject& subject, const Arguments& arguments, const PlainStream& stream,
              const Measurement& m) {
  const auto op = parse_collective(arguments.op);
  const double algbw = algbw_gbit_s(m.bytes, m.seconds.median);
  return {{"op", arguments.op},
          {"backend", subject.backend()},
          {"ranks", subject.size()},
          {"nodes", stream.nodes},
          {"bytes", m.bytes},
          {"type", arguments.type},
          {"device", arguments.device},
          {"in_flight", arguments.in_flight},
          {"repeats", m.seconds.count},
          {"median_s", m.seconds.median},
          {"median_low_s", m.seconds.interval_low},
          {"median_high_s", m.seconds.interval_high},
          {"min_s", m.seconds.minimum},
          {"p95_s", m.seconds.p95},
          {"start_s", m.start_s},
          {"algbw_gbit_s", algbw},
          {"busbw_gbit_s", busbw_factor(op, subject.size()) * algbw},
          {"goodput_gbit_s", positive_or_null(stream.gbit_s)},
          {"goodput_path", stream.path},
          {"comm_thread_cpu", m.comm_thread_cpu},
          {"process_cpu", m.process_cpu},
          {"softirq_cpu", m.softirq_cpu},
          {"error", m.error}};
}

std::string heading(const Subject& subject, const Arguments& arguments, const PlainStream& stream) {
  auto text = fmt::format("{} of {} through {}: ranks {}, nodes {}, in flight {}", arguments.op,
                          arguments.type, subject.backend(), subject.size(), stream.nodes,
                          arguments.in_flight);
  if (stream.gbit_s > 0) {
    text +=
        fmt::format("\na plain TCP stream ({}) carries {:.3f} Gbit/s", stream.path, stream.gbit_s);
  }
  return text + fmt::format("\n{:>8} {:>10} {:>10} {:>7} {:>8} {:>6} {:>5} {:>5} {:>7} {:>5}\n",
                            "bytes", "median ms", "p95 ms", "repeats", "busbw", "/ TCP", "comm",
                            "all", "softirq", "error");
}

std::string table_line(const json& row) {
  const double busbw = row["busbw_gbit_s"];
  const bool comparable = row["goodput_gbit_s"].is_number() && busbw > 0;
  const auto fraction =
      comparable ? fmt::format("{:.3f}", busbw / row["goodput_gbit_s"].get<double>()) : "-";
  return fmt::format(
      "{:>8} {:>10.4f} {:>10.4f} {:>7} {:>8.4g} {:>6} {:>5.2f} {:>5.2f} {:>7.2f} {:>5.2g}\n",
      format_bytes(row["bytes"]), 1e3 * row["median_s"].get<double>(),
      1e3 * row["p95_s"].get<double>(), row["repeats"].get<int>(), busbw, fraction,
      row["comm_thread_cpu"].get<double>(), row["process_cpu"].get<double>(),
      row["softirq_cpu"].get<double>(), row["error"].get<double>());
}

void print_table(const std::string& head, const json& rows) {
  auto text = head;
  for (const auto& row : rows) text += table_line(row);
  text += "busbw: Gbit/s; / TCP: of a plain stream; comm, all, softirq: cores that are busy\n";
  std::fputs(text.c_str(), stdout);
}

}  // namespace

int run_bench(Subject& subject, const Arguments& arguments, const at::Device& device) {
  const MeasureOptions options{.op = parse_collective(arguments.op),
                               .type = parse_type(arguments.type),
                               .device = device,
                               .in_flight = arguments.in_flight,
                               .warmup = arguments.warmup,
                               .repeats = parse_repeats(arguments.repeats)};
  auto sizes = parse_sizes(arguments.bytes);
  if (options.op == Collective::barrier) sizes = {0};
  const auto stream = measure_plain_stream(subject, arguments.stream_s);
  Progress progress({.rank = subject.rank(),
                     .label = "size",
                     .total = static_cast<int64_t>(sizes.size()),
                     .unit = "size"});
  auto rows = json::array();
  bool right = true;
  for (const auto bytes : sizes) {
    const auto result = measure(subject, options, bytes);
    right = right && result.error == 0;
    rows.push_back(make_row(subject, arguments, stream, result));
    progress.update(static_cast<int64_t>(rows.size()));
  }
  if (subject.rank() == 0) {
    if (!stream.problem.empty()) std::fprintf(stderr, "%s\n", stream.problem.c_str());
    if (arguments.json != "-") print_table(heading(subject, arguments, stream), rows);
    write_report(arguments.json, "isobar.bench.collective.1", arguments.command, rows);
  }
  // What one rank serves to the others (a store, MPI's connections) goes with its program.
  subject.barrier();
  return right ? 0 : 1;
}

}  // namespace isobar::bench
