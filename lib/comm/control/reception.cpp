// SPDX-License-Identifier: Apache-2.0
// Rank 0's side of control/join.hpp.
#include <isobar/core/error.hpp>

#include <algorithm>
#include <optional>
#include <utility>

#include "comm/backend.hpp"
#include "comm/control/join.hpp"
#include "comm/control/rival.hpp"

namespace isobar::control {
namespace {

constexpr Milliseconds kTurn{5};
/// How often those who came are looked at for having left again.
constexpr Milliseconds kRound{100};

class Reception {
 public:
  Reception(const ControlOptions& options, const Hello& own, Door& door)
      : options_(options),
        door_(door),
        rival_(options, own),
        guests_(static_cast<size_t>(options.size)) {
    guests_[0] = Guest{Line(Socket()), own};
  }

  Joined run() {
    const auto deadline = Clock::now() + options_.start_timeout;
    last_came_ = Clock::now();
    while (!(is_complete() && !mistake_)) {
      const auto now = Clock::now();
      if (now >= deadline) refuse_latecomers();
      if (mistake_ && now - last_came_ >= options_.grace) throw UsageError(*mistake_);
      for (auto& newcomer : door_.newcomers(now)) {
        last_came_ = now;
        admit(std::move(newcomer));
      }
      notice_leavers(now);
      look_for_rival(now);
      door_.wait(now + kTurn);
    }
    return welcome();
  }

 private:
  using Guest = Newcomer;

  void admit(Newcomer newcomer) {
    const auto& own = guests_[0]->hello;
    if (newcomer.hello.instance == own.instance) return;  // this one, by a detour
    newcomer.line.send(Accepted{});
    if (auto text = other_job(newcomer.hello, own); !text.empty()) {
      newcomer.line.send(Refused{.is_usage = 1, .text = std::move(text)});
      newcomer.line.finish();
      turned_away_ = std::move(newcomer.line);
      return;
    }
    if (!mistake_) mistake_ = mistake_of(newcomer.hello);
    if (!mistake_) {
      auto& place = guests_[static_cast<size_t>(newcomer.hello.rank)];
      place = std::move(newcomer);
      return;
    }
    auto lines = lines_of_guests();
    lines.push_back(&newcomer.line);
    refuse(lines, {.is_usage = 1, .text = *mistake_});
  }

  /// Another rank 0, at the address where all look for one, refuses this one and all its guests.
  void look_for_rival(Time now) {
    auto refusal = mistake_ ? std::nullopt : rival_.look(now);
    if (!refusal) return;
    mistake_ = std::move(refusal);
    refuse(lines_of_guests(), {.is_usage = 1, .text = *mistake_});
  }

  std::vector<Line*> lines_of_guests() {
    std::vector<Line*> lines;
    for (auto& guest : guests_) {
      if (guest) lines.push_back(&guest->line);
    }
    return lines;
  }

  std::optional<std::string> mistake_of(const Hello& hello) const {
    const auto where = to_string(hello.process);
    const auto& own = guests_[0]->hello.process;
    if (hello.size != options_.size || hello.rank < 0 || hello.rank >= options_.size) {
      return detail::join("control connection: ", where, " was started as rank ", hello.rank,
                          " of ", hello.size, ", ", to_string(own), " as rank 0 of ", options_.size,
                          "; start all ranks by one launch");
    }
    const auto& there = guests_[static_cast<size_t>(hello.rank)];
    if (!there || there->hello.instance == hello.instance) return std::nullopt;
    return detail::join("control connection: rank ", hello.rank, " of ", hello.size,
                        " is there twice, on ", to_string(there->hello.process), " and on ", where,
                        "; give every process a rank of its own");
  }

  /// One that waits has nothing to say: whatever comes is its end.
  void notice_leavers(Time now) {
    if (now < next_round_) return;
    next_round_ = now + kRound;
    for (size_t r = 1; r < guests_.size(); ++r) {
      if (!guests_[r]) continue;
      guests_[r]->line.receive();
      if (!guests_[r]->line.is_open() && !mistake_) guests_[r].reset();
    }
  }

  bool is_complete() const {
    const auto& muster = options_.muster;
    const auto count = std::count_if(guests_.begin(), guests_.end(),
                                     [](const auto& guest) { return guest.has_value(); });
    if (count == options_.size || (muster && count == muster->expected)) return true;
    return muster && muster->expected == 0 && Clock::now() - last_came_ >= muster->settle;
  }

  static void refuse(const std::vector<Line*>& lines, const Refused& refusal) {
    for (auto* line : lines) line->send(refusal);
    close_politely(lines);
  }

  [[noreturn]] void refuse_latecomers() {
    if (mistake_) throw UsageError(*mistake_);
    std::vector<int> missing;
    for (size_t r = 0; r < guests_.size(); ++r) {
      if (!guests_[r]) missing.push_back(static_cast<int>(r));
    }
    const auto text = detail::join("control connection on rank 0 of ", options_.size, ": ",
                                   rank_list(missing), missing.size() == 1 ? " has" : " have",
                                   " not come in ", in_words(options_.start_timeout),
                                   "; check that they run and can reach ", options_.host);
    refuse(lines_of_guests(), {.is_usage = 0, .text = text});
    throw CommError(text);
  }

  /// Those who have not come to a muster stay behind.
  Joined welcome() {
    Survivors survivors;
    std::erase_if(guests_, [](const auto& guest) { return !guest.has_value(); });
    Welcome message;
    for (const auto& guest : guests_) {
      survivors.ranks.push_back(guest->hello.rank);
      message.processes.push_back(guest->hello.process);
    }
    message.session = options_.session;
    Joined joined{.roster = Roster(message.processes), .lines = {}, .session = options_.session};
    const auto frame = (options_.muster ? encode(survivors) : std::string()) + encode(message);
    for (auto& guest : guests_) {
      guest->line.send_frame(frame);
      joined.lines.push_back(std::move(guest->line));
    }
    return joined;
  }

  const ControlOptions& options_;
  Door& door_;
  Rival rival_;
  std::vector<std::optional<Guest>> guests_;
  /// Kept until the next, so that the refusal arrives.
  Line turned_away_{Socket()};
  std::optional<std::string> mistake_;
  Time next_round_;
  Time last_came_;
};

}  // namespace

Joined receive_all(const ControlOptions& options, const Hello& own, Door& door) {
  return Reception(options, own, door).run();
}

}  // namespace isobar::control
