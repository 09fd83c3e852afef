// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/collective_rows.hpp>

#include <isobar/bench/measure.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/rates.hpp"

namespace isobar::bench {
namespace {

using nlohmann::json;

json collective_row(const Subject& subject, const CollectiveArguments& arguments,
                    const PlainStream& stream, const Measurement& m) {
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
          {"goodput_gbit_s", rate_or_null(stream.gbit_s)},
          {"goodput_path", stream.path},
          {"comm_thread_cpu", m.comm_thread_cpu},
          {"process_cpu", m.process_cpu},
          {"softirq_cpu", m.softirq_cpu},
          {"error", m.error}};
}

std::string heading(const json& row) {
  auto text = fmt::format("{} of {} through {}: ranks {}, nodes {}, in flight {}",
                          row["op"].get<std::string>(), row["type"].get<std::string>(),
                          row["backend"].get<std::string>(), row["ranks"].get<int>(),
                          row["nodes"].get<int>(), row["in_flight"].get<int>());
  text += stream_line(row);
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

}  // namespace

nlohmann::json collective_rows(Subject& subject, const CollectiveArguments& arguments,
                               const PlainStream& stream, const at::Device& device) {
  const MeasureOptions options{.op = parse_collective(arguments.op),
                               .type = parse_type(arguments.type),
                               .device = device,
                               .in_flight = arguments.in_flight,
                               .warmup = arguments.warmup,
                               .repeats = parse_repeats(arguments.repeats)};
  auto sizes = parse_sizes(arguments.bytes);
  if (options.op == Collective::barrier) sizes = {0};
  Progress progress({.rank = subject.rank(),
                     .label = "size",
                     .total = static_cast<int64_t>(sizes.size()),
                     .unit = "size"});
  auto rows = json::array();
  for (const auto bytes : sizes) {
    rows.push_back(collective_row(subject, arguments, stream, measure(subject, options, bytes)));
    progress.update(static_cast<int64_t>(rows.size()));
  }
  return rows;
}

std::string collective_table(const json& rows) {
  auto text = heading(rows.at(0));
  for (const auto& row : rows) text += table_line(row);
  return text +
         "busbw: Gbit/s; / TCP: of a plain stream; comm, all, softirq: cores that are busy\n";
}

}  // namespace isobar::bench
