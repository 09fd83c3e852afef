// SPDX-License-Identifier: Apache-2.0
// The control thread of every rank but 0: all of it runs there, but for what makes it. Rank 0's
// verdict is the world's; by itself a member judges rank 0 only, which nobody else can tell it
// about: gone, silent, or without an answer to a suspicion. Once `is_over_`, a cause has been
// recorded and nothing more is sent or believed.
#include "comm/control/member.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "comm/control/join.hpp"

namespace isobar::control {
namespace {

/// A suspicion is answered sooner by a rank 0 that runs.
constexpr std::chrono::seconds kSuspicionLimit{3};

class Member final : public Loop {
 public:
  Member(const ControlOptions& options, std::shared_ptr<FirstCause> cause, Joined joined)
      : Loop(options, std::move(cause)),
        processes_(std::move(joined.processes)),
        connection_(std::move(joined.connections.front())),
        early_(std::move(joined.early)),
        heard_(now()) {
    if (connection_.is_open()) poller().add(connection_.socket().fd(), 0);
  }

 private:
  void serve(int, Time now) override {
    heard_ = now;
    for (const auto& message : connection_.receive()) {
      if (!is_over_) handle(message, now);
    }
  }

  void handle(const ControlMessage& message, Time now) {
    if (const auto* verdict = std::get_if<Verdict>(&message)) return obey(*verdict);
    if (const auto* gathered = std::get_if<Gathered>(&message)) return deliver(*gathered);
    if (const auto* found = std::get_if<Found>(&message)) return deliver(*found);
    if (const auto* goodbye = std::get_if<Goodbye>(&message)) return part(*goodbye);
    if (std::holds_alternative<Probe>(message)) sign(now);
  }

  void tick(Time now) override {
    for (const auto& message : std::exchange(early_, {})) handle(message, now);
    if (is_over_ || parted_ || reports().is_urgent()) collect(now);
    if (is_over_) return waiting_.clear();
    if (cause().failed()) return tell_and_finish(cause().message());
    if (parted_) return go_on_alone();
    if (!connection_.is_open()) return finish(processes_.gone({0}));
    if (now - heard_ >= limits().silence) {
      return tell_and_finish(processes_.silent({0}, limits().silence));
    }
    if (suspected_at_ && now - *suspected_at_ >= kSuspicionLimit) {
      return tell_and_finish(processes_.unanswering({0}));
    }
    if (!waiting_.empty() || now >= next_report_) report(now);
    if (now >= next_sign_) sign(now);
    connection_.flush();
  }

  Time next_turn(Time now) const override {
    return connection_.has_output() ? now + Milliseconds(5) : std::min(next_report_, next_sign_);
  }

  void leave(const std::string& reason, Time now) override {
    if (!is_over_ && !parted_) {
      report(now);
      connection_.send(Goodbye{.reason = shortened(reason), .progress = {}});
    }
    close_politely({&connection_});
  }

  /// Takes over what the other threads have to say, and counts for itself.
  void collect(Time now) {
    for (auto& message : reports().take()) {
      if (const auto* done = std::get_if<Report>(&message)) {
        for (const auto& calls : done->calls) {
          counts_[calls.id] = calls.first + static_cast<int64_t>(calls.calls.size());
        }
      }
      if (auto* suspicion = std::get_if<Suspicion>(&message)) {
        suspicion->text = shortened(suspicion->text);
        suspicion_ = suspicion->text;
        suspected_at_ = suspected_at_.value_or(now);
      }
      waiting_.push_back(std::move(message));
    }
  }

  void report(Time now) {
    collect(now);
    next_report_ = now + limits().pace();
    if (waiting_.empty()) return;
    for (const auto& message : std::exchange(waiting_, {})) connection_.send(message);
    next_sign_ = now + limits().interval();
  }

  /// A report is a sign of life too.
  void sign(Time now) {
    collect(now);
    if (waiting_.empty()) waiting_.emplace_back(Alive{});
    report(now);
  }

  /// Rank 0 ended its part: nobody arbitrates any more.
  void part(const Goodbye& goodbye) {
    parted_ = goodbye;
    connection_.close();
  }

  void go_on_alone() {
    waiting_.clear();
    for (const auto& [id, count] : parted_->progress) {
      const auto own = counts_.find(id);
      if (own == counts_.end() || own->second <= count) continue;
      return finish(
          processes_.left_before(0, "collective #" + std::to_string(count), parted_->reason));
    }
    if (suspected_at_) finish(suspicion_);
  }

  /// Rank 0 waits for the connection to close, so that its verdict is known to have come.
  void obey(const Verdict& verdict) {
    connection_.close();
    finish(verdict.text);
  }

  /// Rank 0 may yet be able to read it.
  void tell_and_finish(const std::string& text) {
    connection_.send(Verdict{shortened(text)});
    finish(text);
  }

  void finish(const std::string& text) {
    is_over_ = true;
    cause().record(text);
  }

  ProcessTable processes_;
  Connection connection_;
  std::vector<ControlMessage> early_;
  Time heard_;
  Time next_report_;
  Time next_sign_;
  std::vector<ControlMessage> waiting_;
  std::map<uint64_t, int64_t> counts_;
  std::string suspicion_;
  std::optional<Time> suspected_at_;
  std::optional<Goodbye> parted_;
  bool is_over_ = false;
};

}  // namespace

std::unique_ptr<Loop> make_member(ControlOptions& options, std::shared_ptr<FirstCause> cause,
                                  std::string& own_address) {
  auto joined = join_rank_0(options);
  options.rank = joined.rank;
  options.size = joined.processes.size();
  options.session = joined.session;
  own_address = local_address(joined.connections.front().socket());
  return std::make_unique<Member>(options, std::move(cause), std::move(joined));
}

}  // namespace isobar::control
