// SPDX-License-Identifier: Apache-2.0
// On rank 0's control thread alone. Evidence sets a time to decide, and verdict() judges once that
// has come: kSettle lets ranks that fall together be seen together, kSuspicionSettle lets a
// connection close whose process a transport has seen end. A judgement without a result forgets the
// time, for whoever was silent may have spoken since; new evidence sets it anew.
#include "comm/control/diagnosis.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <map>
#include <utility>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/rank_list.hpp"

namespace isobar::control {
namespace {

/// Ranks that fall together are seen to within this.
constexpr Milliseconds kSettle{100};
/// A transport may see a process end long before its last connection closes.
constexpr Milliseconds kSuspicionSettle{1500};

/// Some hundred messages a second at rank 0, whatever the size of the world.
constexpr Milliseconds kIntervalARank{2};
constexpr Milliseconds kPaceARank{5};
constexpr Milliseconds kLeastPace{50};

constexpr auto kGather = "gather on the control connection";

}  // namespace

Milliseconds TimeLimits::interval() const {
  const auto most = std::max(Milliseconds(1000), size * kIntervalARank);
  return std::clamp(silence / 5, Milliseconds(1), most);
}

Milliseconds TimeLimits::pace() const {
  const auto most = interval();
  return std::clamp(size * kPaceARank, std::min(kLeastPace, most), most);
}

Milliseconds TimeLimits::longest_turn() const {
  constexpr Milliseconds kIdleTurns{100};  // two of Loop's
  return std::max(silence / 11, kIdleTurns);
}

Diagnosis::Diagnosis(ProcessTable processes, TimeLimits limits, Time now)
    : processes_(std::move(processes)),
      limits_(limits),
      call_log_(processes_),
      ranks_(static_cast<size_t>(processes_.size()), Rank{.heard = now, .suspicion = {}}) {}

void Diagnosis::received(int rank, const ControlMessage& message, Time now) {
  ranks_[static_cast<size_t>(rank)].heard = now;
  std::visit([&](const auto& m) { handle(rank, m, now); }, message);
}

void Diagnosis::handle(int rank, const Report& report, Time) {
  for (const auto& watching : report.watching) call_log_.watch(rank, watching);
  for (const auto& calls : report.calls) call_log_.issued(rank, calls);
  for (const auto& unwatched : report.unwatched) call_log_.unwatch(rank, unwatched);
}

void Diagnosis::handle(int, const Verdict& verdict, Time) {
  if (!given_) given_ = verdict.text;
}

void Diagnosis::handle(int rank, const Suspicion& suspicion, Time now) {
  ranks_[static_cast<size_t>(rank)].suspicion = suspicion.text;
  if (suspicion_.empty()) {
    suspicion_ = suspicion.text;
    suspected_at_ = now;
  }
  decide_by(now + kSuspicionSettle);
}

void Diagnosis::handle(int rank, const Goodbye& goodbye, Time) {
  ranks_[static_cast<size_t>(rank)].state = State::left;
  has_left_ = true;
  call_log_.left(rank, goodbye.reason);
}

void Diagnosis::handle(int rank, const Contribution& contribution, Time now) {
  if (contribution.round != rounds_) return;
  if (!round_) {
    round_ = Round{.texts = std::vector<std::optional<std::string>>(ranks_.size()),
                   .count = 0,
                   .is_compared = contribution.is_compared != 0,
                   .since = now};
  }
  auto& text = round_->texts[static_cast<size_t>(rank)];
  if (!text) ++round_->count;
  text = contribution.text;
}

void Diagnosis::closed(int rank, Time now) {
  auto& state = ranks_[static_cast<size_t>(rank)].state;
  if (state != State::there) return;
  state = State::gone;
  decide_by(now + kSettle);
}

void Diagnosis::decide_by(Time time) {
  wants_probe_ |= !decide_at_ || time < *decide_at_;
  decide_at_ = std::min(time, decide_at_.value_or(time));
}

/// Takes notice of what no event tells. Called at every turn: none of it walks all ranks unless
/// something may have come of it.
void Diagnosis::look_around(Time now) {
  ranks_[0].heard = now;
  const bool is_evident = is_somebody_silent(now) || call_log_.left_before() ||
                          incomplete_round(now) || call_log_.has_mismatch();
  if (is_evident) decide_by(now + kSettle);
}

bool Diagnosis::is_somebody_silent(Time now) {
  if (now < next_silence_) return false;
  auto earliest = now;
  for (const auto& rank : ranks_) {
    if (rank.state == State::there) earliest = std::min(earliest, rank.heard);
  }
  next_silence_ = earliest + limits_.silence;
  return now >= next_silence_;
}

std::optional<std::string> Diagnosis::verdict(Time now) {
  look_around(now);
  if (given_) return given_;
  const bool is_time = decide_at_ && now >= *decide_at_;
  if (!is_time && !call_log_.is_mismatch_complete()) return std::nullopt;
  decide_at_.reset();  // whoever was silent may have spoken since
  return judge(now);
}

std::optional<std::string> Diagnosis::last_verdict(Time now) {
  look_around(now);
  if (given_) return given_;
  return decide_at_ ? judge(now) : std::nullopt;
}

/// The strongest evidence first: each kind also causes the ones after it. Calls that differ crash
/// transports, a process that ends leaves others waiting, and whoever waits suspects somebody.
std::optional<std::string> Diagnosis::judge(Time now) const {
  if (auto mismatch = call_log_.mismatch()) return mismatch;
  const auto gone_ones = ranks_in(State::gone);
  if (!gone_ones.empty()) return gone(gone_ones);
  // The ranks of one node fall silent within an interval of each other.
  if (!silent_for(limits_.silence, now).empty()) {
    const auto limit = limits_.silence - limits_.interval() * 3 / 2;
    return processes_.silent(silent_for(limit, now), limits_.silence);
  }
  if (auto left = call_log_.left_before()) return left;
  if (auto incomplete = incomplete_round(now)) return incomplete;
  return suspicion_.empty() ? std::nullopt : std::optional(suspicion(now));
}

Time Diagnosis::next_decision() const { return decide_at_.value_or(Time::max()); }

std::optional<Gathered> Diagnosis::take_gathered() {
  if (!round_ || round_->count < round_->texts.size()) return std::nullopt;
  Gathered gathered{.round = rounds_++, .is_equal = 0, .values = {}, .runs = {}};
  std::map<std::string, uint32_t> places;
  for (auto& text : round_->texts) {
    const auto [place, is_new] =
        places.try_emplace(std::move(*text), static_cast<uint32_t>(places.size()));
    if (is_new) gathered.values.push_back(place->first);
    if (gathered.runs.empty() || gathered.runs.back().value != place->second) {
      gathered.runs.push_back({.value = place->second, .count = 0});
    }
    ++gathered.runs.back().count;
  }
  gathered.is_equal = gathered.values.size() == 1 ? 1 : 0;
  if (round_->is_compared) {
    gathered.values.clear();
    gathered.runs.clear();
  }
  round_.reset();
  return gathered;
}

std::vector<int> Diagnosis::ranks_in(State state) const {
  std::vector<int> found;
  for (int r = 0; r < processes_.size(); ++r) {
    if (ranks_[static_cast<size_t>(r)].state == state) found.push_back(r);
  }
  return found;
}

std::vector<int> Diagnosis::silent_for(Clock::duration limit, Time now) const {
  std::vector<int> found;
  for (const int r : ranks_in(State::there)) {
    if (now - ranks_[static_cast<size_t>(r)].heard >= limit) found.push_back(r);
  }
  return found;
}

std::string Diagnosis::gone(const std::vector<int>& ranks) const {
  std::string text = processes_.gone(ranks);
  for (const int r : ranks) {
    text += detail::join("; last collective known of ", rank_list({r}, kMostNamed), ": ",
                         call_log_.last_of(r));
    const auto& said = ranks_[static_cast<size_t>(r)].suspicion;
    if (!said.empty()) text += detail::join("; before it ended it said: ", said);
  }
  return text;
}

/// With all that may explain it.
std::string Diagnosis::suspicion(Time now) const {
  std::string text = suspicion_;
  const auto behind = call_log_.behind();
  if (!behind.empty()) text += "; " + behind;
  // All were asked when the suspicion came, and answer at once.
  const auto waited = now - suspected_at_;
  const auto mute = waited < kSuspicionSettle / 2 ? std::vector<int>() : silent_for(waited, now);
  if (!mute.empty()) text += "; " + processes_.unanswering(mute);
  const auto left = ranks_in(State::left);
  if (!left.empty()) text += detail::join("; ", rank_list(left, kMostNamed), " had ended before");
  return text;
}

std::optional<std::string> Diagnosis::incomplete_round(Time now) const {
  const bool may_be = round_ && (has_left_ || now - round_->since >= limits_.gather);
  if (!may_be) return std::nullopt;
  std::vector<int> missing;
  for (int r = 0; r < processes_.size(); ++r) {
    const auto index = static_cast<size_t>(r);
    if (round_->texts[index]) continue;
    if (ranks_[index].state == State::left) return processes_.left_before(r, kGather, {});
    missing.push_back(r);
  }
  if (missing.empty() || now - round_->since < limits_.gather) return std::nullopt;
  return detail::join(kGather, ": ", processes_.names(missing),
                      missing.size() == 1 ? " has" : " have", " not come in ",
                      in_words(limits_.gather));
}

}  // namespace isobar::control
