// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/step_rows.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/rates.hpp"

namespace isobar::bench {
namespace {

using nlohmann::json;

/// The computation as it went without communication; the optimizer has no share in overlap.
/// Buckets count with what is handed to collectives.
StepCompute step_compute(const StepMeasurement& m) {
  auto buckets = m.buckets;
  double gradients = 0;
  for (const auto& bucket : buckets) gradients += static_cast<double>(bucket.bytes);
  for (auto& bucket : buckets) {
    const double share = static_cast<double>(bucket.bytes) / gradients;
    bucket.bytes = static_cast<int64_t>(share * static_cast<double>(m.payload_bytes));
  }
  return {.forward_s = m.compute.forward_s,
          .backward_s = m.compute.backward_s,
          .optimizer_s = m.optimizer_s,
          .buckets = std::move(buckets)};
}

/// What no schedule beats; null where the wire's rate is not known.
json bound_of(const StepMeasurement& m, const PlainStream& stream, int ranks) {
  const int senders = m.buckets.empty() ? 1 : ranks;
  if (senders > 1 && stream.gbit_s <= 0) return {};
  const AllreduceCost wire{.latency_s = 0, .bytes_per_s = stream.gbit_s * 1e9 / 8};
  return predict_step(step_compute(m), wire, senders).bound_s;
}

json times_of(const StepMeasurement& m) {
  return {{"repeats", m.step.count},
          {"step_s", m.step.median},
          {"step_low_s", m.step.interval_low},
          {"step_high_s", m.step.interval_high},
          {"step_min_s", m.step.minimum},
          {"step_p95_s", m.step.p95},
          {"zero_grad_s", m.zero_grad_s},
          {"forward_s", m.forward_s},
          {"backward_s", m.backward_s},
          {"exposed_comm_s", m.exposed_comm_s},
          {"optimizer_s", m.optimizer_s},
          {"cores_busy", m.cores_busy},
          {"compute_forward_s", m.compute.forward_s},
          {"compute_backward_s", m.compute.backward_s}};
}

json buckets_of(const StepMeasurement& m) {
  auto buckets = json::array();
  for (const auto& bucket : m.buckets) {
    buckets.push_back({{"bytes", bucket.bytes}, {"ready_s", bucket.ready_s}});
  }
  return buckets;
}

json sync_fields(const StepArguments& arguments, const StepMeasurement& m) {
  if (m.sync == "none") return {{"bucket_cap_bytes", nullptr}, {"first_bucket_cap_bytes", nullptr}};
  return {{"bucket_cap_bytes", parse_bucket_cap(arguments.bucket_cap)},
          {"first_bucket_cap_bytes", parse_bucket_cap(arguments.first_bucket_cap)}};
}

json model_fields(const StepArguments& arguments) {
  if (arguments.model == "mlp")
    return {{"layers", arguments.layers},
            {"width", arguments.width},
            {"emulate_ms", arguments.emulate_ms}};
  return {{"grid", arguments.grid},
          {"hidden", arguments.hidden},
          {"channels", arguments.channels},
          {"layers", arguments.layers},
          {"prognostic", arguments.prognostic},
          {"forcing", arguments.forcing},
          {"shard", arguments.shard},
          {"precision", arguments.precision},
          {"chunk_edges", arguments.chunk_edges},
          {"recompute", arguments.recompute}};
}

json fields_of(const Subject& ranks, const StepArguments& arguments, const PlainStream& stream,
               const StepMeasurement& m) {
  const int n = ranks.size();
  json row{{"model", arguments.model},
           {"backend", ranks.backend()},
           {"ranks", n},
           {"nodes", stream.nodes},
           {"sync", m.sync},
           {"compress", "none"},
           {"optimizer", arguments.optimizer},
           {"device", arguments.device},
           {"threads", arguments.threads},
           {"batch", arguments.samples()},
           {"parameters", m.parameters},
           {"payload_bytes", m.payload_bytes},
           {"sent_bytes", m.sent_bytes},
           {"goodput_gbit_s", rate_or_null(stream.gbit_s)},
           {"goodput_path", stream.path},
           {"bound_s", bound_of(m, stream, n)},
           {"first_bucket_s", m.buckets.empty() ? json() : json(m.buckets.front().ready_s)},
           {"buckets", buckets_of(m)},
           {"deviation", m.deviation},
           {"error", m.error}};
  row.update(times_of(m));
  row.update(sync_fields(arguments, m));
  return row;
}

std::string milliseconds(const json& value) {
  return value.is_number() ? fmt::format("{:.2f}", 1e3 * value.get<double>()) : "-";
}

}  // namespace

json step_row(Subject& ranks, const StepCase& step_case, const StepArguments& arguments,
              const PlainStream& stream, const StepOptions& options) {
  const auto added = arguments.memory ? measure_added_bytes(ranks, step_case) : -1;
  auto row = fields_of(ranks, arguments, stream, measure_step(ranks, step_case, options));
  row.update(model_fields(arguments));
  row["added_bytes"] = added < 0 ? json() : json(added);
  return row;
}

std::string step_table(const json& row) {
  auto text = fmt::format("{}, {} parameters, sync {} through {}: ranks {}, nodes {}",
                          row["model"].get<std::string>(), row["parameters"].get<int64_t>(),
                          row["sync"].get<std::string>(), row["backend"].get<std::string>(),
                          row["ranks"].get<int>(), row["nodes"].get<int>());
  text += stream_line(row);
  text += fmt::format("\n{:>9} {:>21} {:>8} {:>9} {:>8} {:>8}\n", "step ms", "95 %", "repeats",
                      "bound", "buckets", "error");
  text += fmt::format("{:>9} {:>21} {:>8} {:>9} {:>8} {:>8g}\n", milliseconds(row["step_s"]),
                      milliseconds(row["step_low_s"]) + " - " + milliseconds(row["step_high_s"]),
                      row["repeats"].get<int>(), milliseconds(row["bound_s"]),
                      row["buckets"].size(), row["error"].get<double>());
  return text +
         fmt::format("of it: forward {}, backward {}, exposed communication {}, optimizer {}\n",
                     milliseconds(row["forward_s"]), milliseconds(row["backward_s"]),
                     milliseconds(row["exposed_comm_s"]), milliseconds(row["optimizer_s"]));
}

}  // namespace isobar::bench
