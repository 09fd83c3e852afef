// SPDX-License-Identifier: Apache-2.0
// A profile as JSON, which isobar's reports read, and as tables. Called by one rank at the end of a
// run, and by tests; it neither measures nor communicates. Keys of the JSON are never taken away or
// given another meaning under one schema: older reports read newer profiles, and the other way.
#include <isobar/train/step_profile.hpp>

#include <isobar/core/summary.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace isobar {
namespace {

constexpr std::array<const char*, kStepParts> kPartNames{
    "data_wait", "copy", "forward", "backward", "exposed_comm", "optimizer", "other"};

nlohmann::json or_null(const std::optional<double>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

nlohmann::json rank_json(const StepProfile& profile, size_t rank) {
  const auto& own = profile.ranks[rank];
  nlohmann::json seconds;
  for (int part = 0; part < kStepParts; ++part) seconds[kPartNames[part]] = own.seconds[part];
  nlohmann::json json{{"rank", rank},
                      {"host", own.host},
                      {"step_s", own.step_s},
                      {"seconds", seconds},
                      {"run_delay_s", or_null(own.run_delay_s)},
                      {"throttled_s", or_null(own.throttled_s)},
                      {"helpers_cpu_s", or_null(own.helpers_cpu_s)},
                      {"peak_memory_bytes", own.peak_memory_bytes}};
  if (own.device_peak_memory_bytes > 0) {
    json["device_peak_memory_bytes"] = own.device_peak_memory_bytes;
  }
  return json;
}

/// In whole nanoseconds, which is what the clock tells: files stay short.
double nanoseconds_of(double seconds) { return std::round(1e9 * seconds) / 1e9; }

nlohmann::json timeline_json(const StepTimeline& timeline) {
  auto ranks = nlohmann::json::array();
  for (const auto& rank : timeline.ranks) {
    auto parts = nlohmann::json::array(), buckets = nlohmann::json::array();
    for (const auto& span : rank.parts) {
      parts.push_back({{"part", name_of(span.part)},
                       {"begin_s", nanoseconds_of(span.begin_s)},
                       {"end_s", nanoseconds_of(span.end_s)}});
    }
    for (const auto& bucket : rank.buckets) {
      buckets.push_back({{"bucket", bucket.index},
                         {"bytes", bucket.bytes},
                         {"begin_s", nanoseconds_of(bucket.begin_s)},
                         {"end_s", nanoseconds_of(bucket.end_s)},
                         {"waited_s", nanoseconds_of(bucket.waited_s)}});
    }
    ranks.push_back({{"rank", rank.rank},
                     {"step_s", nanoseconds_of(rank.step_s)},
                     {"parts", parts},
                     {"buckets", buckets}});
  }
  return {{"step", timeline.step}, {"ranks", ranks}};
}

int64_t most_of(const StepProfile& profile, int64_t RankProfile::*bytes) {
  int64_t most = 0;
  for (const auto& rank : profile.ranks) most = std::max(most, rank.*bytes);
  return most;
}

std::string head(const StepProfile& profile) {
  const auto percent = [](double share) { return fmt::format("{:.1f} %", 100 * share); };
  const auto device = most_of(profile, &RankProfile::device_peak_memory_bytes);
  return fmt::format(
      "profile of steps {} to {}: {:.2f} ms a step, {:.1f} samples/s, MFU {}\n"
      " memory {}{}, energy {}\n",
      profile.warmup_steps + 1, profile.warmup_steps + profile.steps, 1e3 * profile.step_s,
      profile.samples_per_s, profile.mfu ? percent(*profile.mfu) : "n/a",
      format_bytes(profile.peak_memory_bytes()),
      device > 0 ? " and " + format_bytes(device) + " on the device" : "",
      profile.energy_j ? fmt::format("{:.1f} J", *profile.energy_j) : "n/a");
}

}  // namespace

const char* name_of(StepPart part) { return kPartNames[static_cast<size_t>(part)]; }

int64_t StepProfile::peak_memory_bytes() const {
  return most_of(*this, &RankProfile::peak_memory_bytes);
}

nlohmann::json profile_json(const StepProfile& profile) {
  auto ranks = nlohmann::json::array(), collectives = nlohmann::json::array();
  for (size_t rank = 0; rank < profile.ranks.size(); ++rank) {
    ranks.push_back(rank_json(profile, rank));
  }
  for (const auto& c : profile.collectives) {
    collectives.push_back({{"asker", c.asker},
                           {"operation", c.operation},
                           {"calls_per_step", c.calls},
                           {"bytes_per_step", c.bytes},
                           {"seconds_per_step", c.seconds},
                           {"exposed_s_per_step", c.exposed_s}});
  }
  return {{"schema", "isobar.profile.1"},
          {"steps", profile.steps},
          {"warmup_steps", profile.warmup_steps},
          {"world", profile.ranks.size()},
          {"step_s", profile.step_s},
          {"samples_per_s", profile.samples_per_s},
          {"mfu", or_null(profile.mfu)},
          {"flop_per_step", or_null(profile.flop_per_step)},
          {"peak_memory_bytes", profile.peak_memory_bytes()},
          {"energy_j", or_null(profile.energy_j)},
          {"parts", kPartNames},
          {"ranks", ranks},
          {"collectives", collectives},
          {"timeline", timeline_json(profile.timeline)}};
}

std::string profile_table(const StepProfile& profile) {
  auto text = head(profile);
  text += fmt::format(" {:<12} {:>9} {:>9} {:>7}  {:>9}  {}\n", "part", "mean ms", "median",
                      "share", "slowest", "rank");
  for (int part = 0; part < kStepParts; ++part) {
    std::vector<double> by_rank;
    for (const auto& rank : profile.ranks) by_rank.push_back(rank.seconds[part]);
    const auto slowest = std::max_element(by_rank.begin(), by_rank.end()) - by_rank.begin();
    double mean = 0;
    for (const double seconds : by_rank) mean += seconds / static_cast<double>(by_rank.size());
    text +=
        fmt::format(" {:<12} {:>9.3f} {:>9.3f} {:>5.1f} %  {:>9.3f}  {} on {}\n", kPartNames[part],
                    1e3 * mean, 1e3 * summarize(by_rank).median, 100 * mean / profile.step_s,
                    1e3 * by_rank[slowest], slowest, profile.ranks[slowest].host);
  }
  return text;
}

std::string collectives_table(const StepProfile& profile) {
  if (profile.collectives.empty()) return "no collectives\n";
  auto text = fmt::format(" {:<14} {:<14} {:>10} {:>12} {:>10} {:>10}\n", "asker", "operation",
                          "calls/step", "bytes/step", "ms/step", "exposed");
  for (const auto& c : profile.collectives) {
    text += fmt::format(" {:<14} {:<14} {:>10.3f} {:>12.0f} {:>10.4f} {:>10.4f}\n", c.asker,
                        c.operation, c.calls, c.bytes, 1e3 * c.seconds, 1e3 * c.exposed_s);
  }
  return text;
}

}  // namespace isobar
