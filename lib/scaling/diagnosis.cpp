// SPDX-License-Identifier: Apache-2.0
// Ranks of a synchronous step end together, so that each one's parts add up to the same: a rank
// that computes longer waits less in its collectives. The rank that waits least there shows what
// communication costs by itself, and the differences in computation and data show for whom the
// others wait. The order is therefore: data, computation, then what is left of communication.
#include <isobar/scaling/diagnosis.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/summary.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

namespace isobar {
namespace {

using nlohmann::json;

constexpr const char* kSchema = "isobar.profile.1";
constexpr const char* kGradients = "gradients";
/// A network is called slow where it takes so many times what it should.
constexpr double kSlower = 1.5;
/// Buckets below this are worth making larger, whatever the network.
constexpr double kBestBucketLatencies = 8;

double number_at(const json& object, const char* key) {
  ISOBAR_CHECK(object.contains(key) && object.at(key).is_number(), "profile: no number '", key,
               "'");
  return object.at(key).get<double>();
}

double part_of(const ProfiledRank& rank, const std::string& part) {
  const auto found = rank.seconds.find(part);
  return found == rank.seconds.end() ? 0 : found->second;
}

double computing_s(const ProfiledRank& rank) {
  return part_of(rank, "copy") + part_of(rank, "forward") + part_of(rank, "backward") +
         part_of(rank, "optimizer") + part_of(rank, "other");
}

template <typename Value>
double median_over(const ProfiledStep& profile, const Value& value) {
  std::vector<double> values;
  for (const auto& rank : profile.ranks) values.push_back(value(rank));
  return summarize(std::move(values)).median;
}

template <typename Value>
const ProfiledRank& largest_of(const ProfiledStep& profile, const Value& value) {
  return *std::max_element(profile.ranks.begin(), profile.ranks.end(),
                           [&](const auto& a, const auto& b) { return value(a) < value(b); });
}

std::string milliseconds(double seconds) { return fmt::format("{:.1f} ms", 1e3 * seconds); }

std::string name_of_rank(const ProfiledRank& rank) {
  return rank.host.empty() ? fmt::format("rank {}", rank.rank)
                           : fmt::format("rank {} on {}", rank.rank, rank.host);
}

/// Whoever waits longest for data holds the others up by that.
Finding data_finding(const ProfiledStep& profile) {
  const auto wait = [](const ProfiledRank& rank) { return part_of(rank, "data_wait"); };
  const auto& rank = largest_of(profile, wait);
  const double everyone_s = median_over(profile, wait);
  const bool alone = wait(rank) > 2 * everyone_s && profile.ranks.size() > 1;
  Finding finding{.cause = Cause::data, .gain_s = wait(rank), .rank = rank.rank};
  finding.sentence =
      fmt::format("{} waits {} of a step of {} for data{}", name_of_rank(rank),
                  milliseconds(wait(rank)), milliseconds(profile.step_s),
                  alone ? fmt::format(", the median rank {}", milliseconds(everyone_s)) : "");
  finding.cure =
      alone ? "look at that node's disk and at who else reads from it"
            : "give the data more memory (data.cache_bytes), read ahead (train.prefetch), or copy "
              "the file to a faster disk";
  if (!alone) finding.setting = "train.prefetch=8";
  return finding;
}

Finding slow_rank_finding(const ProfiledStep& profile) {
  const auto& rank = largest_of(profile, computing_s);
  const double median_s = median_over(profile, computing_s);
  const double more_s = computing_s(rank) - median_s;
  Finding finding{.cause = Cause::slow_rank, .gain_s = more_s, .rank = rank.rank};
  const auto delay = [](const ProfiledRank& one) { return one.run_delay_s.value_or(0); };
  const bool taken = delay(rank) - median_over(profile, delay) > more_s / 2;
  finding.sentence =
      fmt::format("{} computes {} in a step, the median rank {}; the others wait",
                  name_of_rank(rank), milliseconds(computing_s(rank)), milliseconds(median_s));
  if (taken) {
    finding.cause = Cause::taken_cores;
    finding.sentence += fmt::format(": for {} of it its threads waited for a core",
                                    milliseconds(*rank.run_delay_s));
    finding.cure =
        "look for what else runs on that node, and at the binding: isobar doctor --binding";
  } else {
    finding.cure =
        "leave that node out, and look at its clock and temperature: isobar doctor "
        "--cluster";
  }
  return finding;
}

/// All ranks alike: more threads than cores.
Finding taken_cores_finding(const ProfiledStep& profile) {
  const double delay_s =
      median_over(profile, [](const ProfiledRank& rank) { return rank.run_delay_s.value_or(0); });
  return {.cause = Cause::taken_cores,
          .sentence = fmt::format("threads of every rank wait for a core, {} in a step of {}",
                                  milliseconds(delay_s), milliseconds(profile.step_s)),
          .cure = "give a rank as many cores as it has threads (cpus-per-task, OMP_NUM_THREADS)",
          .setting = {},
          .gain_s = delay_s};
}

const ProfiledCollective* gradients_of(const ProfiledStep& profile) {
  for (const auto& collective : profile.collectives) {
    if (collective.asker == kGradients) return &collective;
  }
  return nullptr;
}

/// Of the rank that waits least: what is left when nobody waits for another.
double own_exposed_s(const ProfiledStep& profile) {
  double least = profile.step_s;
  for (const auto& rank : profile.ranks) least = std::min(least, part_of(rank, "exposed_comm"));
  return least;
}

double wanted_s(const ProfiledCollective& gradients, const NetworkReference& network,
                std::size_t ranks) {
  const double sent = 2 * (1 - 1 / static_cast<double>(ranks)) * gradients.bytes;
  return gradients.calls * network.latency_s + sent / network.bytes_per_s;
}

std::string size_setting(double bytes) {
  const auto mib = std::max(1.0, std::exp2(std::ceil(std::log2(bytes / (1 << 20)))));
  return fmt::format("ddp.bucket_cap={:.0f}MiB", mib);
}

/// What is exposed is the end of the sums, so that it can gain at most what is exposed.
Finding network_finding(const ProfiledStep& profile, const DiagnosisOptions& options) {
  const double exposed_s = own_exposed_s(profile);
  Finding finding{.cause = Cause::communication, .gain_s = exposed_s};
  finding.sentence = fmt::format(
      "{} of a step of {} wait for communication that computation does "
      "not hide",
      milliseconds(exposed_s), milliseconds(profile.step_s));
  finding.cure = "send less: isobar bench compression says what compression gains";
  const auto* gradients = gradients_of(profile);
  if (!gradients || gradients->calls <= 0 || !options.network) return finding;
  const auto& network = *options.network;
  const double should_s = wanted_s(*gradients, network, profile.ranks.size());
  const double latency_s = gradients->calls * network.latency_s;
  if (gradients->seconds > kSlower * should_s) {
    finding.cause = Cause::slow_network;
    finding.gain_s = std::min(exposed_s, gradients->seconds - should_s);
    finding.sentence +=
        fmt::format(": {} in {:.0f} sums take {}, and by {} should take {}",
                    format_bytes(static_cast<std::int64_t>(gradients->bytes)), gradients->calls,
                    milliseconds(gradients->seconds), network.basis, milliseconds(should_s));
    finding.cure = "find the link: isobar doctor --cluster names the slow node";
  } else if (latency_s > should_s / 2) {
    const double best = kBestBucketLatencies * network.latency_s * network.bytes_per_s;
    const double calls = std::max(1.0, std::ceil(gradients->bytes / best));
    finding.cause = Cause::small_buckets;
    finding.gain_s = std::min(exposed_s, (gradients->calls - calls) * network.latency_s);
    finding.sentence +=
        fmt::format(": {:.0f} sums of {} each, of which {} is latency", gradients->calls,
                    format_bytes(static_cast<std::int64_t>(gradients->bytes / gradients->calls)),
                    milliseconds(latency_s));
    finding.setting = size_setting(best);
    finding.cure = "larger buckets: " + finding.setting;
  }
  return finding;
}

}  // namespace

const char* name_of(Cause cause) {
  switch (cause) {
    case Cause::data:
      return "data";
    case Cause::slow_rank:
      return "slow_rank";
    case Cause::taken_cores:
      return "taken_cores";
    case Cause::slow_network:
      return "slow_network";
    case Cause::small_buckets:
      return "small_buckets";
    case Cause::communication:
      return "communication";
    default:
      return "nothing";
  }
}

ProfiledStep read_profiled_step(const json& profile) {
  ISOBAR_CHECK(profile.is_object() && profile.value("schema", "") == kSchema,
               "profile: wanted an object of schema ", kSchema);
  ProfiledStep read{.steps = static_cast<std::int64_t>(number_at(profile, "steps")),
                    .step_s = number_at(profile, "step_s"),
                    .ranks = {},
                    .collectives = {}};
  for (const auto& rank : profile.at("ranks")) {
    ProfiledRank one{.rank = static_cast<int>(number_at(rank, "rank")),
                     .host = rank.value("host", ""),
                     .step_s = number_at(rank, "step_s"),
                     .seconds = rank.at("seconds").get<std::map<std::string, double>>()};
    if (rank.contains("run_delay_s") && rank.at("run_delay_s").is_number()) {
      one.run_delay_s = rank.at("run_delay_s").get<double>();
    }
    read.ranks.push_back(std::move(one));
  }
  ISOBAR_CHECK(!read.ranks.empty(), "profile: it has no ranks");
  for (const auto& row : profile.value("collectives", json::array())) {
    read.collectives.push_back({.asker = row.at("asker").get<std::string>(),
                                .operation = row.at("operation").get<std::string>(),
                                .calls = number_at(row, "calls_per_step"),
                                .bytes = number_at(row, "bytes_per_step"),
                                .seconds = row.value("seconds_per_step", 0.0),
                                .exposed_s = row.value("exposed_s_per_step", 0.0)});
  }
  return read;
}

ProfiledStep load_profiled_step(const std::filesystem::path& path) {
  const auto file = std::filesystem::is_directory(path) ? path / "profile.json" : path;
  std::ifstream in(file);
  ISOBAR_CHECK(in, "profile: cannot read '", file.string(), "'");
  const auto profile = json::parse(in, nullptr, /*allow_exceptions=*/false);
  ISOBAR_CHECK(!profile.is_discarded(), "profile: '", file.string(), "' is no JSON");
  return read_profiled_step(profile);
}

std::vector<Finding> diagnose(const ProfiledStep& profile, const DiagnosisOptions& options) {
  ISOBAR_CHECK(!profile.ranks.empty() && profile.step_s > 0,
               "diagnose: wanted a profile with ranks and a step that takes time");
  std::vector<Finding> found{data_finding(profile), slow_rank_finding(profile)};
  if (found.back().cause != Cause::taken_cores) found.push_back(taken_cores_finding(profile));
  found.push_back(network_finding(profile, options));
  std::erase_if(found, [&](const Finding& finding) {
    return finding.gain_s < options.least_share * profile.step_s;
  });
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.gain_s > b.gain_s; });
  if (found.empty()) {
    found.push_back(
        {.cause = Cause::nothing,
         .sentence = fmt::format("a step of {} is computation; nothing else takes {:.0f} "
                                 "% of it",
                                 milliseconds(profile.step_s), 100 * options.least_share),
         .cure = {},
         .setting = {}});
  }
  return found;
}

}  // namespace isobar
