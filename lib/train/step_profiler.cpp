// SPDX-License-Identifier: Apache-2.0
// Called by a trainer, on the loop's thread of every rank. While steps go on nothing here
// communicates but check_budget(), and that at log lines alone: what one rank finds in a step is
// kept until all ranks can be told, so that they end together.
//
// The steps of the warm-up are timed too, for the log lines; a profile is what was added since.
#include "train/step_profiler.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <nlohmann/json.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <string_view>

namespace isobar {
namespace {

/// Of check_budget() itself.
constexpr const char* kBudgetAsker = "budget";

int64_t peak_resident_bytes() {
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? int64_t{1024} * usage.ru_maxrss : 0;
}

int64_t peak_device_bytes(c10::Device device) {
  if (device.is_cpu()) return 0;
  auto* const allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  return allocator ? allocator->getDeviceStats(device.index()).allocated_bytes[0].peak : 0;
}

double sum_of(const StepParts& parts) { return std::accumulate(parts.begin(), parts.end(), 0.0); }

/// What was added to `after` since `before`, whose rows are its first ones.
std::vector<CollectiveCount> difference(std::vector<CollectiveCount> after,
                                        const std::vector<CollectiveCount>& before) {
  for (size_t row = 0; row < before.size(); ++row) {
    after[row].calls -= before[row].calls;
    after[row].bytes -= before[row].bytes;
    after[row].seconds -= before[row].seconds;
    after[row].exposed_s -= before[row].exposed_s;
  }
  return after;
}

nlohmann::json counted(const std::optional<double>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

nlohmann::json rows_of(const std::vector<CollectiveCount>& counts) {
  auto rows = nlohmann::json::array();
  for (const auto& c : counts) {
    if (c.calls == 0) continue;
    rows.push_back(
        {c.asker, std::string(to_string(c.operation)), c.calls, c.bytes, c.seconds, c.exposed_s});
  }
  return rows;
}

/// Adds one rank's collectives to those of all; `share` is 1 / (steps · ranks).
void add_rows(std::vector<CollectiveProfile>& all, const nlohmann::json& rows, double share) {
  for (const auto& row : rows) {
    const auto asker = row[0].get<std::string>(), operation = row[1].get<std::string>();
    auto found = std::find_if(all.begin(), all.end(), [&](const auto& known) {
      return known.asker == asker && known.operation == operation;
    });
    if (found == all.end()) found = all.insert(all.end(), CollectiveProfile{asker, operation});
    found->calls += share * row[2].get<double>();
    found->bytes += share * row[3].get<double>();
    found->seconds += share * row[4].get<double>();
    found->exposed_s += share * row[5].get<double>();
  }
}

/// The counters are a node's, so one of its ranks counts.
std::optional<double> energy_of(const std::vector<nlohmann::json>& ranks) {
  std::set<std::string> hosts;
  double sum = 0;
  for (const auto& rank : ranks) {
    if (!hosts.insert(rank["host"].get<std::string>()).second) continue;
    if (rank["energy"].is_null()) return std::nullopt;
    sum += rank["energy"].get<double>();
  }
  return sum;
}

std::optional<double> flop_of(const std::vector<nlohmann::json>& ranks) {
  double sum = 0;
  for (const auto& rank : ranks) {
    if (rank["flop"].get<double>() == 0) return std::nullopt;
    sum += rank["flop"].get<double>();
  }
  return sum;
}

RankProfile rank_profile(const nlohmann::json& rank, double steps) {
  RankProfile profile;
  profile.host = rank["host"].get<std::string>();
  profile.seconds = rank["seconds"].get<StepParts>();
  for (double& seconds : profile.seconds) seconds /= steps;
  profile.step_s = sum_of(profile.seconds);
  const auto counted_in = [&](const char* key) {
    return rank[key].is_null() ? std::optional<double>() : rank[key].get<double>() / steps;
  };
  profile.run_delay_s = counted_in("run_delay");
  profile.throttled_s = counted_in("throttled");
  profile.helpers_cpu_s = counted_in("helpers");
  profile.peak_memory_bytes = rank["resident"].get<int64_t>();
  profile.device_peak_memory_bytes = rank["device"].get<int64_t>();
  return profile;
}

std::string rank_text(const StepTimeline::Rank& rank) {
  auto parts = nlohmann::json::array(), buckets = nlohmann::json::array();
  for (const auto& span : rank.parts) {
    parts.push_back({static_cast<int>(span.part), span.begin_s, span.end_s});
  }
  for (const auto& b : rank.buckets) {
    buckets.push_back({b.index, b.bytes, b.begin_s, b.end_s, b.waited_s});
  }
  return nlohmann::json{rank.step_s, parts, buckets}.dump();
}

StepTimeline::Rank rank_of_text(int number, const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  StepTimeline::Rank rank{
      .rank = number, .step_s = json[0].get<double>(), .parts = {}, .buckets = {}};
  for (const auto& span : json[1]) {
    rank.parts.push_back(
        {static_cast<StepPart>(span[0].get<int>()), span[1].get<double>(), span[2].get<double>()});
  }
  for (const auto& b : json[2]) {
    rank.buckets.push_back({b[0].get<int64_t>(), b[1].get<int64_t>(), b[2].get<double>(),
                            b[3].get<double>(), b[4].get<double>()});
  }
  return rank;
}

/// Seconds of its steps in which a rank did not wait for others.
double own_s(const RankProfile& rank) {
  double own_s = 0;
  for (int part = 0; part < kStepParts; ++part) {
    if (static_cast<StepPart>(part) != StepPart::exposed_comm) own_s += rank.seconds[part];
  }
  return own_s;
}

/// In their order; see StepTimeline::kMostRanks.
std::vector<int> shown_ranks(const std::vector<RankProfile>& ranks) {
  std::vector<int> all(ranks.size());
  std::iota(all.begin(), all.end(), 0);
  constexpr size_t kMost = StepTimeline::kMostRanks;
  if (all.size() <= kMost) return all;
  std::stable_sort(all.begin(), all.end(),
                   [&](int a, int b) { return own_s(ranks[a]) > own_s(ranks[b]); });
  std::vector<int> shown;
  for (size_t i = 0; i < kMost; ++i) shown.push_back(all[i * (all.size() - 1) / (kMost - 1)]);
  std::sort(shown.begin(), shown.end());
  return shown;
}

/// The text that `root` has, on all ranks. Collective.
std::string text_of(Communicator& world, int root, const std::string& own) {
  auto length = at::full({1}, static_cast<int64_t>(own.size()), at::kLong);
  world.broadcast(length, root).wait();
  auto bytes = at::empty({length.item<int64_t>()}, at::kChar);
  auto* data = reinterpret_cast<char*>(bytes.data_ptr<int8_t>());
  if (world.rank() == root) std::copy(own.begin(), own.end(), data);
  world.broadcast(bytes, root).wait();
  return {data, data + bytes.numel()};
}

}  // namespace

StepProfiler::StepProfiler(const ProcessGrid& grid, const TrainerOptions& options)
    : grid_(grid),
      options_(options),
      census_(grid.world().census()),
      timer_(census_),
      warmup_(std::min(options.profile.warmup_steps, options.steps / 4)) {
  census_.start();
  census_.keep_spans();
}

StepProfiler::~StepProfiler() { census_.stop(); }

void StepProfiler::resume() {
  timer_.restart();
  energy_.skip();
  delay_.skip();
  throttled_.skip();
  helpers_.skip();
  if (options_.profile.collectives) calls_before_ = calls();
}

void StepProfiler::pause() {
  energy_.read();
  delay_.read();
  throttled_.read();
  helpers_.read();
}

void StepProfiler::end_step(int64_t step) {
  timer_.lap(StepPart::other);
  timer_.end_step(kept(step));
  last_step_ = step;
  if (step > warmup_) {
    ++steps_;
    if (options_.profile.collectives) judge(step);
  } else if (step == warmup_) {
    before_ = timer_.total();
    counts_before_ = census_.counts();
    energy_ = EnergyMeter();
    delay_ = DelayMeter(run_delay_s);
    throttled_ = DelayMeter(throttled_s);
    helpers_ = DelayMeter(other_threads_cpu_s);
  }
  if (options_.profile.collectives) calls_before_ = calls();
}

StepProfiler::Calls StepProfiler::calls() const {
  Calls calls;
  for (const auto& count : census_.counts()) calls[count.asker] += count.calls;
  calls.erase(kBudgetAsker);
  return calls;
}

void StepProfiler::judge(int64_t step) {
  if (!excess_.empty()) return;
  const auto& budget = *options_.profile.collectives;
  for (const auto& [asker, after] : calls()) {
    const auto before = calls_before_.find(asker);
    const int64_t made = after - (before == calls_before_.end() ? 0 : before->second);
    const auto allowed = budget.find(asker);
    const int64_t most = allowed == budget.end() ? 0 : allowed->second;
    if (made <= most) continue;
    std::set<std::string_view> operations;
    for (const auto& count : census_.counts()) {
      if (count.asker == asker) operations.insert(to_string(count.operation));
    }
    std::string names;
    for (const auto name : operations) names += (names.empty() ? "" : ", ") + std::string(name);
    excess_ = detail::join("train: step ", step, ": '", asker, "' made ", made, " collectives (",
                           names, "), profile.collectives allows ", most,
                           allowed == budget.end() ? " of a name that it does not have" : "",
                           "; find what asks for them, or allow ", asker, ": ", made);
    return;
  }
}

void StepProfiler::check_budget() {
  if (!options_.profile.collectives) return;
  const CollectiveAsker asker(kBudgetAsker);
  run_agreed(grid_.world(), [&] {
    if (!excess_.empty()) throw Error(excess_);
  });
}

/// A rollout that grows takes as many times a forecast step as the measured steps' mean length.
double StepProfiler::flop_per_step() const {
  double length = 1;
  if (options_.rollout) {
    length = 0;
    for (int64_t step = warmup_; step < warmup_ + steps_; ++step) {
      length += static_cast<double>(options_.rollout->at(step)) / static_cast<double>(steps_);
    }
  }
  return options_.profile.flop_per_pass * static_cast<double>(options_.accumulate) * length;
}

/// Of the last measured steps, in their order.
std::vector<double> StepProfiler::lengths() const {
  std::vector<double> lengths;
  for (int64_t step = last_step_ - std::min(steps_, kKeptSteps) + 1; step <= last_step_; ++step) {
    lengths.push_back(kept_[step % kKeptSteps].step_s);
  }
  return lengths;
}

std::string StepProfiler::own_text() const {
  auto seconds = timer_.total();
  for (int part = 0; part < kStepParts; ++part) seconds[part] -= before_[part];
  return nlohmann::json{{"host", host_name()},
                        {"seconds", seconds},
                        {"lengths", lengths()},
                        {"resident", peak_resident_bytes()},
                        {"device", peak_device_bytes(options_.device)},
                        {"flop", flop_per_step()},
                        {"energy", counted(energy_.joules())},
                        {"run_delay", counted(delay_.seconds())},
                        {"throttled", counted(throttled_.seconds())},
                        {"helpers", counted(helpers_.seconds())},
                        {"collectives", rows_of(difference(census_.counts(), counts_before_))}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Of the step that is the median by `lengths`, which are those of the last ones over all ranks:
/// all choose the same. Texts come from the shown ranks alone: all of thousands would be large.
StepTimeline StepProfiler::gather_timeline(const std::vector<double>& lengths,
                                           const std::vector<RankProfile>& ranks) {
  if (lengths.empty()) return {};
  const auto count = static_cast<int64_t>(lengths.size());
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return lengths[a] < lengths[b]; });
  StepTimeline timeline{.step = last_step_ - count + 1 + order[(count - 1) / 2], .ranks = {}};
  const auto own = rank_text(kept(timeline.step));
  for (const int rank : shown_ranks(ranks)) {
    timeline.ranks.push_back(rank_of_text(rank, text_of(grid_.world(), rank, own)));
  }
  return timeline;
}

StepProfile StepProfiler::gather() {
  std::vector<nlohmann::json> ranks;
  for (const auto& text : gather_texts(grid_.world(), own_text())) {
    ranks.push_back(nlohmann::json::parse(text));
  }
  const auto steps = static_cast<double>(steps_);
  const auto world = static_cast<double>(ranks.size());
  StepProfile profile;
  profile.steps = steps_;
  profile.warmup_steps = warmup_;
  std::vector<double> lengths(std::min(steps_, kKeptSteps));
  for (const auto& rank : ranks) {
    for (size_t i = 0; i < lengths.size(); ++i) lengths[i] += rank["lengths"][i].get<double>();
    profile.ranks.push_back(rank_profile(rank, steps));
    profile.step_s += profile.ranks.back().step_s / world;
    add_rows(profile.collectives, rank["collectives"], 1 / (steps * world));
  }
  const auto samples = options_.batch * options_.accumulate * grid_.replicas();
  profile.samples_per_s = static_cast<double>(samples) / profile.step_s;
  profile.energy_j = energy_of(ranks);
  profile.flop_per_step = flop_of(ranks);
  const double peak = options_.profile.peak_flop_per_s;
  if (profile.flop_per_step && peak > 0) {
    profile.mfu = *profile.flop_per_step / (profile.step_s * peak * world);
  }
  profile.timeline = gather_timeline(lengths, profile.ranks);
  return profile;
}

}  // namespace isobar
