// SPDX-License-Identifier: Apache-2.0
#include <isobar/projection/projection_file.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace isobar {
namespace {

double milli(double seconds) { return 1e3 * seconds; }

std::string step_line(const ProjectedStep& s) {
  return fmt::format(
      "{:>6} {:>9.1f} {:>17} {:>7.3f} {:>15} {:>9.1f} {:>9.1f} {:>8.1f} {:>6.1f} {:>6.1f}\n",
      s.nodes, milli(s.step_s.value),
      fmt::format("{:.1f} - {:.1f}", milli(s.step_s.low), milli(s.step_s.high)), s.efficiency.value,
      fmt::format("{:.3f} - {:.3f}", s.efficiency.low, s.efficiency.high), milli(s.compute_s),
      milli(s.straggler_s), milli(s.exposed_s), milli(s.data_s), milli(s.start_s));
}

std::string network_line(const ProjectionInput& in) {
  const auto& m = in.network.model;
  return fmt::format(
      "allreduce: {:.1f} us a doubling of nodes, {:.1f} GB/s, {:.1f} over many nodes, residual "
      "{:.1f} %; computes at {:.2f} beside it\n",
      1e6 * m.hop_s, 1e-9 / m.byte_s, 1e-9 / (m.byte_s + m.spread_byte_s),
      100 * in.network.residual, in.compute_rate);
}

std::string curve_table(const ProjectedCurve& curve) {
  auto text = fmt::format("{}, projected; intervals of 95 %\n", curve.projection.name);
  text += network_line(curve.projection.input);
  text +=
      fmt::format("{:>6} {:>9} {:>17} {:>7} {:>15} {:>9} {:>9} {:>8} {:>6} {:>6}\n", "nodes",
                  "step ms", "95 %", "E", "95 %", "compute", "slowest", "exposed", "data", "start");
  for (const auto& step : curve.steps) text += step_line(step);
  for (const auto& [part, what] : curve.projection.basis) {
    text += fmt::format("{}: {}\n", part, what);
  }
  return text;
}

const ProjectedStep* step_on(const ProjectedCurve& curve, int nodes) {
  for (const auto& step : curve.steps) {
    if (step.nodes == nodes) return &step;
  }
  return nullptr;
}

std::string part_line(const ProjectedCurve& a, const ProjectedCurve& b) {
  const auto& first = a.projection.name;
  const auto& second = b.projection.name;
  const int nodes = curves_part(a, b);
  if (nodes == 0) {
    return fmt::format("{} and {} stay within 0.02 of each other\n", first, second);
  }
  const auto &x = step_on(a, nodes)->efficiency, &y = step_on(b, nodes)->efficiency;
  const bool overlap = x.low <= y.high && y.low <= x.high;
  return fmt::format("{} and {} part at {} nodes, {:.3f} and {:.3f}; intervals {}\n", first, second,
                     nodes, x.value, y.value, overlap ? "overlap" : "do not overlap");
}

}  // namespace

int curves_part(const ProjectedCurve& a, const ProjectedCurve& b, double difference) {
  int from = 0;
  for (const auto& step : a.steps) {
    const auto* other = step_on(b, step.nodes);
    if (!other) continue;
    const bool apart = std::abs(step.efficiency.value - other->efficiency.value) >= difference;
    from = apart ? (from == 0 ? step.nodes : from) : 0;
  }
  return from;
}

std::string projection_table(const std::vector<ProjectedCurve>& curves) {
  std::string text;
  for (const auto& curve : curves) text += (text.empty() ? "" : "\n") + curve_table(curve);
  for (std::size_t a = 0; a < curves.size(); ++a) {
    for (std::size_t b = a + 1; b < curves.size(); ++b) text += part_line(curves[a], curves[b]);
  }
  return text;
}

nlohmann::json projection_rows(const std::vector<ProjectedCurve>& curves) {
  auto rows = nlohmann::json::array();
  for (const auto& curve : curves) {
    for (const auto& s : curve.steps) {
      rows.push_back(
          {{"point", {{"cluster", curve.projection.name}, {"nodes", std::to_string(s.nodes)}}},
           {"projected", true},
           {"nodes", s.nodes},
           {"value", "step_s"},
           {"median", s.step_s.value},
           {"low", s.step_s.low},
           {"high", s.step_s.high},
           {"efficiency", s.efficiency.value},
           {"efficiency_low", s.efficiency.low},
           {"efficiency_high", s.efficiency.high},
           {"compute_s", s.compute_s},
           {"straggler_s", s.straggler_s},
           {"exposed_comm_s", s.exposed_s},
           {"data_wait_s", s.data_s},
           {"start_s", s.start_s},
           {"basis", curve.projection.basis}});
    }
  }
  return rows;
}

std::string projection_csv(const std::vector<ProjectedCurve>& curves) {
  std::string text =
      "name,projected,nodes,step_s,step_low_s,step_high_s,efficiency,efficiency_low,"
      "efficiency_high,compute_s,straggler_s,exposed_comm_s,data_wait_s,start_s\n";
  for (const auto& curve : curves) {
    for (const auto& s : curve.steps) {
      text += fmt::format(
          "{},true,{},{:.6g},{:.6g},{:.6g},{:.6g},{:.6g},{:.6g},{:.6g},{:.6g},"
          "{:.6g},{:.6g},{:.6g}\n",
          curve.projection.name, s.nodes, s.step_s.value, s.step_s.low, s.step_s.high,
          s.efficiency.value, s.efficiency.low, s.efficiency.high, s.compute_s, s.straggler_s,
          s.exposed_s, s.data_s, s.start_s);
    }
  }
  return text;
}

}  // namespace isobar
