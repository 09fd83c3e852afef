// SPDX-License-Identifier: Apache-2.0
#include "comm/control/diagnosis.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <utility>

#include "comm/backend.hpp"

namespace isobar::control {
namespace {

/// Ranks that fall together are seen to within this.
constexpr Milliseconds kSettle{100};
/// A transport may see a process end long before its last connection closes.
constexpr Milliseconds kComplaint{1500};

constexpr auto kGather = "gather on the control connection";

}  // namespace

Milliseconds Patience::interval() const {
  return std::clamp(silence / 5, Milliseconds(1), Milliseconds(1000));
}

Milliseconds Patience::longest_turn() const {
  constexpr Milliseconds kIdleTurns{100};  // two of Loop's
  return std::max(silence / 11, kIdleTurns);
}

Diagnosis::Diagnosis(Roster roster, Patience patience, Time now)
    : roster_(std::move(roster)),
      patience_(patience),
      ledger_(roster_),
      ranks_(static_cast<size_t>(roster_.size()), Rank{.heard = now, .complaint = {}}) {}

void Diagnosis::received(int rank, const Message& message, Time now) {
  ranks_[static_cast<size_t>(rank)].heard = now;
  std::visit([&](const auto& m) { handle(rank, m, now); }, message);
}

void Diagnosis::handle(int, const Verdict& verdict, Time) {
  if (!given_) given_ = verdict.text;
}

void Diagnosis::handle(int rank, const Complaint& complaint, Time now) {
  ranks_[static_cast<size_t>(rank)].complaint = complaint.text;
  if (complaint_.empty()) {
    complaint_ = complaint.text;
    complained_at_ = now;
  }
  decide_by(now + kComplaint);
}

void Diagnosis::handle(int rank, const Goodbye& goodbye, Time) {
  ranks_[static_cast<size_t>(rank)].state = State::left;
  ledger_.left(rank, goodbye.reason);
}

void Diagnosis::handle(int rank, const Contribution& contribution, Time now) {
  if (contribution.round != rounds_) return;
  if (!round_) round_ = Round{std::vector<std::optional<std::string>>(ranks_.size()), now};
  round_->texts[static_cast<size_t>(rank)] = contribution.text;
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

/// Takes notice of what no event tells.
void Diagnosis::look_around(Time now) {
  ranks_[0].heard = now;
  const bool is_evident = !silent_for(patience_.silence, now).empty() || ledger_.left_before() ||
                          incomplete_round(now) || ledger_.mismatch();
  if (is_evident) decide_by(now + kSettle);
}

std::optional<std::string> Diagnosis::verdict(Time now) {
  look_around(now);
  if (given_) return given_;
  const bool is_time = decide_at_ && now >= *decide_at_;
  if (!is_time && !ledger_.is_mismatch_complete()) return std::nullopt;
  decide_at_.reset();  // whoever was silent may have spoken since
  return judge(now);
}

std::optional<std::string> Diagnosis::last_verdict(Time now) {
  look_around(now);
  if (given_) return given_;
  return decide_at_ ? judge(now) : std::nullopt;
}

std::optional<std::string> Diagnosis::judge(Time now) const {
  if (auto mismatch = ledger_.mismatch()) return mismatch;
  const auto gone_ones = ranks_in(State::gone);
  if (!gone_ones.empty()) return gone(gone_ones);
  // The ranks of one node fall silent within an interval of each other.
  if (!silent_for(patience_.silence, now).empty()) {
    const auto limit = patience_.silence - patience_.interval() * 3 / 2;
    return roster_.silent(silent_for(limit, now), patience_.silence);
  }
  if (auto left = ledger_.left_before()) return left;
  if (auto incomplete = incomplete_round(now)) return incomplete;
  return complaint_.empty() ? std::nullopt : std::optional(complaint(now));
}

Time Diagnosis::next_decision() const { return decide_at_.value_or(Time::max()); }

std::optional<Gathered> Diagnosis::take_gathered() {
  const bool is_complete = round_ && std::all_of(round_->texts.begin(), round_->texts.end(),
                                                 [](const auto& t) { return t.has_value(); });
  if (!is_complete) return std::nullopt;
  Gathered gathered{.round = rounds_++, .texts = {}};
  for (auto& text : round_->texts) gathered.texts.push_back(std::move(*text));
  round_.reset();
  return gathered;
}

std::vector<int> Diagnosis::ranks_in(State state) const {
  std::vector<int> found;
  for (int r = 0; r < roster_.size(); ++r) {
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
  std::string text = roster_.gone(ranks);
  for (const int r : ranks) {
    text += detail::join("; last collective known of ", rank_list({r}), ": ", ledger_.last_of(r));
    const auto& said = ranks_[static_cast<size_t>(r)].complaint;
    if (!said.empty()) text += detail::join("; before it ended it said: ", said);
  }
  return text;
}

/// With all that may explain it.
std::string Diagnosis::complaint(Time now) const {
  std::string text = complaint_;
  const auto behind = ledger_.behind();
  if (!behind.empty()) text += "; " + behind;
  // All were asked when the complaint came, and answer at once.
  const auto waited = now - complained_at_;
  const auto mute = waited < kComplaint / 2 ? std::vector<int>() : silent_for(waited, now);
  if (!mute.empty()) text += "; " + roster_.unanswering(mute);
  const auto left = ranks_in(State::left);
  if (!left.empty()) text += detail::join("; ", rank_list(left), " had ended before");
  return text;
}

std::optional<std::string> Diagnosis::incomplete_round(Time now) const {
  if (!round_) return std::nullopt;
  std::vector<int> missing;
  for (int r = 0; r < roster_.size(); ++r) {
    const auto place = static_cast<size_t>(r);
    if (round_->texts[place]) continue;
    if (ranks_[place].state == State::left) return roster_.left_before(r, kGather, {});
    missing.push_back(r);
  }
  if (missing.empty() || now - round_->since < patience_.gather) return std::nullopt;
  return detail::join(kGather, ": ", roster_.names(missing), missing.size() == 1 ? " has" : " have",
                      " not come in ", in_words(patience_.gather));
}

}  // namespace isobar::control
