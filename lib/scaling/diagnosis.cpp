// SPDX-License-Identifier: Apache-2.0
// Ranks of a synchronous step end together, so that each one's parts add up to the same: a rank
// that computes longer waits less in its collectives. The rank that waits least there shows what
// communication costs by itself, and the differences in computation and data show for whom the
// others wait. The order is therefore: data, computation, then what is left of communication.
//
// What a cure gains is the difference to the step as it would then be: of ranks the slowest once
// one of them is as the others are, of sums what a model of the wire leaves exposed.
#include <isobar/scaling/diagnosis.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "scaling/profiled_ranks.hpp"
#include "scaling/step_sums.hpp"

namespace isobar {
namespace {

using nlohmann::json;

/// A network is called slow where it takes so many times what it should.
constexpr double kSlower = 1.5;
/// Of a node's memory, what its ranks may keep data in.
constexpr double kMemoryShare = 0.5;

std::size_t ranks_on(const ProfiledStep& profile, const std::string& host) {
  return static_cast<std::size_t>(std::count_if(profile.ranks.begin(), profile.ranks.end(),
                                                [&](const auto& r) { return r.host == host; }));
}

bool has_several_hosts(const ProfiledStep& profile) {
  std::set<std::string> hosts;
  for (const auto& rank : profile.ranks) hosts.insert(rank.host);
  return hosts.size() > 1;
}

std::string milliseconds(double seconds) { return fmt::format("{:.1f} ms", 1e3 * seconds); }

std::string bytes_text(double bytes) { return format_bytes(static_cast<std::int64_t>(bytes)); }

std::string name_of_rank(const ProfiledRank& rank) {
  return rank.host.empty() ? fmt::format("rank {}", rank.rank)
                           : fmt::format("rank {} on {}", rank.rank, rank.host);
}

/// As keys take it, a power of two of KiB or MiB.
std::string size_text(double bytes) {
  return bytes < (1 << 20) ? fmt::format("{:.0f}KiB", bytes / (1 << 10))
                           : fmt::format("{:.0f}MiB", bytes / (1 << 20));
}

double power_of_two_from(double bytes) { return std::exp2(std::ceil(std::log2(bytes))); }

/// What the sums would leave exposed once ranks wait for each other no longer, behind the backward
/// pass of this one; what they leave now where nobody knows what they should take.
double exposed_then_s(const ProfiledStep& profile, const DiagnosisOptions& options,
                      const ProfiledRank& rank) {
  const auto sums = sums_of(profile);
  if (!sums || !options.network) return part_of(least_waiting(profile), "exposed_comm");
  const Wire wire{part_of(rank, "backward"), sums->wire.sent_bytes};
  return wire.exposed_s(sums->calls, should_take_s(profile, *sums, *options.network));
}

/// What would keep all data of a rank in memory; 0 where they are kept, where the node's ranks have
/// no room for it, and where nothing is known.
double cache_for_all(const ProfiledStep& profile, const ProfiledRank& rank) {
  if (!profile.data || profile.data->bytes <= profile.data->cache_bytes) return 0;
  const double wanted = power_of_two_from(std::max(profile.data->bytes, 1048576.0));
  const double node = wanted * static_cast<double>(ranks_on(profile, rank.host));
  return node <= kMemoryShare * profile.data->machine_bytes ? wanted : 0;
}

std::string cure_of_data(const ProfiledStep& profile, bool alone) {
  if (alone) return "look at that node's disk and at who else reads from it";
  const bool kept = profile.data && profile.data->bytes <= profile.data->cache_bytes;
  if (kept) {
    return "copy the file to a faster disk: data.cache_bytes keeps all of it in memory already, "
           "once it has been read";
  }
  if (!profile.data) {
    return "give the data more memory (data.cache_bytes) if they fit, else copy the file to a "
           "faster disk";
  }
  return fmt::format(
      "copy the file to a faster disk, or take more nodes: the {} of a rank's data do not fit into "
      "memory",
      bytes_text(profile.data->bytes));
}

/// Without waits for data a step is as long as its slowest rank computes. Where ranks wait in turn,
/// each one's waits are in the others' sums, as far as these do not explain them.
Finding data_finding(const ProfiledStep& profile, const DiagnosisOptions& options) {
  const auto& rank = largest_of(profile, waiting_s);
  const auto others = others_than(profile, rank, waiting_s);
  const auto both = [](const ProfiledRank& one) { return waiting_s(one) + computing_s(one); };
  const bool alone = waiting_s(rank) > 2 * others.most && profile.ranks.size() > 1;
  Finding finding{.cause = Cause::data, .rank = rank.rank};
  const auto& slowest = largest_of(profile, computing_s);
  const double exposed_s = part_of(least_waiting(profile), "exposed_comm");
  const double in_turn_s = std::max(0.0, exposed_s - exposed_then_s(profile, options, slowest));
  finding.gain_s = largest(profile, both) - computing_s(slowest) + std::min(in_turn_s, others.most);
  finding.sentence =
      fmt::format("{} waits {} of a step of {} for data{}", name_of_rank(rank),
                  milliseconds(waiting_s(rank)), milliseconds(profile.step_s),
                  alone ? fmt::format(", the others {}", milliseconds(others.median)) : "");
  if (const double cache = cache_for_all(profile, rank); cache > 0) {
    finding.setting = "data.cache_bytes=" + size_text(cache);
    finding.cure = fmt::format("keep the data, {} a rank, in memory: {}",
                               bytes_text(profile.data->bytes), finding.setting);
  } else {
    finding.cure = cure_of_data(profile, alone);
  }
  return finding;
}

constexpr const char* kRaiseQuota =
    "raise the quota of its control group (cpu.max; of a container its cpus)";

std::string cure_of_slow_rank(const ProfiledStep& profile, const ProfiledRank& rank) {
  if (!has_several_hosts(profile)) {
    return "all ranks are on one host, so look at its binding (isobar doctor --binding) and at "
           "what this rank alone has to do";
  }
  double least_s = computing_s(rank);
  for (const auto& other : profile.ranks) {
    if (other.host == rank.host) least_s = std::min(least_s, computing_s(other));
  }
  const double more_s = computing_s(rank) - others_than(profile, rank, computing_s).median;
  if (computing_s(rank) - least_s > more_s / 2) {
    return "other ranks of that node are as fast as the rest, so look at its binding and its GPU: "
           "isobar doctor --binding";
  }
  return "leave that node out, and look at its clock and temperature: isobar doctor --cluster";
}

/// Behind the longer backward pass of a slow rank more of the sums is hidden than will be behind
/// that of the next slowest.
double newly_exposed_s(const ProfiledStep& profile, const DiagnosisOptions& options,
                       const ProfiledRank& slow) {
  const ProfiledRank* next = nullptr;
  for (const auto& rank : profile.ranks) {
    if (&rank != &slow && (!next || computing_s(rank) > computing_s(*next))) next = &rank;
  }
  if (next == nullptr) return 0;
  const double exposed_s = part_of(least_waiting(profile), "exposed_comm");
  return std::max(0.0, exposed_then_s(profile, options, *next) - exposed_s);
}

/// Once cured, the next slowest rank decides.
Finding slow_rank_finding(const ProfiledStep& profile, const DiagnosisOptions& options) {
  const auto& rank = largest_of(profile, computing_s);
  const auto others = others_than(profile, rank, computing_s);
  const double more_s = profile.ranks.size() > 1 ? computing_s(rank) - others.most : 0;
  Finding finding{.cause = Cause::slow_rank, .rank = rank.rank};
  finding.gain_s = more_s - newly_exposed_s(profile, options, rank);
  const double taken_s = delay_s(rank) - others_than(profile, rank, delay_s).median;
  finding.sentence =
      fmt::format("{} computes {} in a step, the median of the others {}; they wait for it",
                  name_of_rank(rank), milliseconds(computing_s(rank)), milliseconds(others.median));
  if (taken_s <= more_s / 2) {
    finding.cure = cure_of_slow_rank(profile, rank);
    return finding;
  }
  finding.cause = Cause::taken_cores;
  finding.gain_s = std::min(finding.gain_s, taken_s);
  finding.sentence += fmt::format(
      ": for {} of it {}", milliseconds(delay_s(rank)),
      is_throttled(rank) ? "a quota kept it from running" : "it was ready and others had its core");
  finding.cure = is_throttled(rank) ? kRaiseQuota
                                    : "look for what else runs on that node, and at the binding: "
                                      "isobar doctor --binding";
  return finding;
}

double delay_by_others_s(const ProfiledRank& rank) { return delay_s(rank) - delay_by_own_s(rank); }

template <typename Delay>
Finding waiting_finding(const ProfiledStep& profile, Cause cause, const Delay& delay) {
  const auto& rank = largest_of(profile, computing_s);
  Finding finding{.cause = cause};
  finding.gain_s = computing_s(rank) - largest(profile, [&](const ProfiledRank& one) {
                     return computing_s(one) - delay(one);
                   });
  finding.sentence =
      fmt::format("every rank waits for a core, {} {} of a step of {}: ", name_of_rank(rank),
                  milliseconds(delay(rank)), milliseconds(profile.step_s));
  return finding;
}

/// All ranks alike: others on their cores, or a quota.
Finding taken_cores_finding(const ProfiledStep& profile) {
  auto finding = waiting_finding(profile, Cause::taken_cores, delay_by_others_s);
  const bool throttled = is_throttled(largest_of(profile, computing_s));
  finding.sentence += throttled ? "a quota is used up" : "others have it";
  finding.cure = throttled ? kRaiseQuota
                           : "look for what else runs on the nodes, and at the binding: isobar "
                             "doctor --binding";
  return finding;
}

Finding own_threads_finding(const ProfiledStep& profile) {
  auto finding = waiting_finding(profile, Cause::own_threads, delay_by_own_s);
  finding.sentence += "its own other threads, which load and communicate, have it";
  finding.cure =
      "give a rank as many cores as it has threads (cpus-per-task, OMP_NUM_THREADS), and one more";
  return finding;
}

/// One rank is slower than the others, and others have the cores of all. Where they have those of
/// one rank, or of all alike, the same time is told once: of the one while the others have less
/// than half of that.
std::vector<Finding> computation_findings(const ProfiledStep& profile,
                                          const DiagnosisOptions& options) {
  auto one = slow_rank_finding(profile, options);
  auto all = taken_cores_finding(profile);
  if (one.cause == Cause::slow_rank) return {one, all};
  return {one.gain_s >= all.gain_s / 2 ? one : all};
}

Finding slow_network(Finding finding, const Sums& sums, const NetworkReference& network,
                     double should_s, double gain_s) {
  finding.cause = Cause::slow_network;
  finding.gain_s = gain_s;
  finding.sentence +=
      fmt::format(": {} in {:.0f} sums take {}, and by {} should take {}", bytes_text(sums.bytes),
                  sums.calls, milliseconds(sums.busy_s), network.basis, milliseconds(should_s));
  finding.cure = "find the link: isobar doctor --cluster names the slow node";
  return finding;
}

/// Of what a rank's own threads take from the core that computes, what larger buckets give back: a
/// sum's latency for each that is made no longer. What a sum takes alone is a thread's work, what
/// it takes more it waits for a core.
double given_back_s(const ProfiledStep& profile, const Sums& sums, const FittedWire& wire,
                    const Cap& cap) {
  const auto& rank = largest_of(profile, computing_s);
  if (cap.bytes <= 0 || !shares_core(rank)) return 0;
  const double fewer = sums.calls - std::ceil(sums.bytes / cap.bytes);
  return std::min(delay_by_own_s(rank), fewer * wire.alone_s);
}

Finding small_buckets(Finding finding, const Sums& sums, const FittedWire& wire, const Cap& cap) {
  finding.cause = Cause::small_buckets;
  finding.sentence +=
      fmt::format(": {:.0f} sums of {} each, of which {} is latency", sums.calls,
                  bytes_text(sums.bytes / sums.calls), milliseconds(sums.calls * wire.latency_s));
  finding.setting = "ddp.bucket_cap_bytes=" + size_text(cap.bytes);
  finding.cure = "larger buckets: " + finding.setting;
  return finding;
}

/// `own_threads` loses what larger buckets take away from it.
Finding network_finding(const ProfiledStep& profile, const DiagnosisOptions& options,
                        Finding& own_threads) {
  const double waited_s = part_of(least_waiting(profile), "exposed_comm");
  Finding finding{.cause = Cause::communication, .gain_s = waited_s};
  finding.sentence =
      fmt::format("{} of a step of {} wait for communication that computation does not hide",
                  milliseconds(waited_s), milliseconds(profile.step_s));
  finding.cure = "send less: isobar bench compression says what compression gains";
  const auto sums = sums_of(profile);
  if (!sums || sums->exposed_s <= 0) return finding;
  const auto wire = fit(*sums, profile, options);
  const auto cap = best_cap(*sums, wire, profile.step_s);
  const double back_s = given_back_s(profile, *sums, wire, cap);
  const double by_cap_s = sums->exposed_s - cap.exposed_s + back_s;
  if (sums->calls * wire.latency_s > sums->busy_s / 2 &&
      by_cap_s >= options.least_share * profile.step_s) {
    finding.gain_s = by_cap_s;
    own_threads.gain_s -= back_s;
    return small_buckets(finding, *sums, wire, cap);
  }
  if (!options.network) return finding;
  const double should_s = should_take_s(profile, *sums, *options.network);
  if (sums->busy_s <= kSlower * should_s) return finding;
  const double gain_s = sums->exposed_s - sums->wire.exposed_s(sums->calls, should_s);
  return slow_network(finding, *sums, *options.network, should_s, gain_s);
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
    case Cause::own_threads:
      return "own_threads";
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

std::vector<Finding> diagnose(const ProfiledStep& profile, const DiagnosisOptions& options) {
  ISOBAR_CHECK(!profile.ranks.empty() && profile.step_s > 0,
               "diagnose: wanted a profile with ranks and a step that takes time");
  std::vector<Finding> found{data_finding(profile, options)};
  for (auto& one : computation_findings(profile, options)) found.push_back(std::move(one));
  auto own_threads = own_threads_finding(profile);
  auto network = network_finding(profile, options, own_threads);
  found.push_back(std::move(own_threads));
  found.push_back(std::move(network));
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

std::string finding_text(const ProfiledStep& profile, const Finding& finding) {
  if (finding.cure.empty()) return finding.sentence + ".";
  return fmt::format("{}. To do: {}. A step would be about {:.0f} % shorter.", finding.sentence,
                     finding.cure, 100 * finding.gain_s / profile.step_s);
}

json findings_as_json(const ProfiledStep& profile, const std::vector<Finding>& findings) {
  auto rows = json::array();
  for (const auto& finding : findings) {
    rows.push_back({{"cause", name_of(finding.cause)},
                    {"sentence", finding.sentence},
                    {"cure", finding.cure},
                    {"setting", finding.setting},
                    {"gain_s", finding.gain_s},
                    {"gain_share", finding.gain_s / profile.step_s},
                    {"rank", finding.rank ? json(*finding.rank) : json()}});
  }
  return rows;
}

}  // namespace isobar
