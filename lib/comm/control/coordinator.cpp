// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>

#include <algorithm>
#include <map>
#include <utility>

#include "comm/control/join.hpp"
#include "comm/control/loop.hpp"
#include "comm/control/shelf.hpp"

namespace isobar::control {
namespace {

/// The address by which most came; of several the first.
std::string most_used(const std::vector<Line>& lines) {
  std::map<std::string, int> uses;
  std::string best;
  for (const auto& line : lines) {
    if (line.is_open()) ++uses[local_address(line.socket())];
  }
  for (const auto& [address, count] : uses) {
    if (best.empty() || count > uses[best]) best = address;
  }
  return best;
}

class Coordinator final : public Loop {
 public:
  Coordinator(const ControlOptions& options, std::shared_ptr<FirstCause> cause, Joined joined,
              Door door, Hello own)
      : Loop(options, std::move(cause)),
        own_(std::move(own)),
        diagnosis_(std::move(joined.roster), patience(), now()),
        lines_(std::move(joined.lines)),
        door_(std::move(door)) {
    for (size_t r = 1; r < lines_.size(); ++r) {
      if (lines_[r].is_open()) poller().add(lines_[r].socket().fd(), static_cast<int>(r));
    }
  }

 private:
  void serve(int tag, Time now) override {
    auto& line = lines_[static_cast<size_t>(tag)];
    for (const auto& message : line.receive()) {
      if (serve_shelf(tag, message)) continue;
      diagnosis_.received(tag, message, now);
      // It waits for nothing more but this end's.
      if (std::holds_alternative<Goodbye>(message)) line.close();
    }
  }

  void tick(Time now) override {
    for (const auto& message : reports().take()) {
      if (!serve_shelf(0, message)) diagnosis_.received(0, message, now);
    }
    for (size_t r = 1; r < lines_.size(); ++r) {
      lines_[r].flush();
      if (!lines_[r].is_open()) diagnosis_.closed(static_cast<int>(r), now);
    }
    turn_away(now);
    if (cause().failed()) announce(cause().message());
    if (auto verdict = has_announced_ ? std::nullopt : diagnosis_.verdict(now)) announce(*verdict);
    if (diagnosis_.take_probe()) broadcast(Probe{});
    if (auto gathered = diagnosis_.take_gathered()) {
      broadcast(*gathered);
      deliver(std::move(*gathered));
    }
    if (now < next_sign_) return;
    next_sign_ = now + patience().interval();
    broadcast(Alive{});
  }

  Time next_turn(Time now) const override {
    const bool waits = std::any_of(lines_.begin(), lines_.end(),
                                   [](const Line& line) { return line.has_output(); });
    const auto next = waits ? now + Milliseconds(5) : next_sign_;
    return has_announced_ ? next : std::min(next, diagnosis_.next_decision());
  }

  void leave(const std::string& reason, Time now) override {
    diagnosis_.received(0, Goodbye{.reason = reason, .progress = {}}, now);
    if (auto verdict = has_announced_ ? std::nullopt : diagnosis_.last_verdict(now)) {
      announce(*verdict);
    }
    if (!has_announced_) {
      broadcast(Goodbye{.reason = reason, .progress = diagnosis_.progress_of(0)});
    }
    std::vector<Line*> lines;
    for (auto& line : lines_) lines.push_back(&line);
    close_politely(lines);
  }

  bool serve_shelf(int rank, const Message& message) {
    std::vector<Shelf::Answer> answers;
    const bool served = shelf_.take(rank, message, answers);
    for (auto& [to, found] : answers) {
      to == 0 ? deliver(std::move(found)) : lines_[static_cast<size_t>(to)].send(found);
    }
    return served;
  }

  /// All others hear it before this process can end of it.
  void announce(const std::string& text) {
    if (std::exchange(has_announced_, true)) return;
    broadcast(Verdict{text});
    cause().record(text);
  }

  void broadcast(const Message& message) {
    const auto frame = encode(message);
    for (auto& line : lines_) line.send_frame(frame);
  }

  /// The world is complete; whoever comes now was started by mistake.
  void turn_away(Time now) {
    for (auto& [line, hello] : door_.newcomers(now)) {
      line.send(Accepted{});
      line.send(refusal_of(hello));
      line.finish();
      turned_away_ = std::move(line);
    }
  }

  Refused refusal_of(const Hello& hello) const {
    const auto& roster = diagnosis_.roster();
    const auto where = to_string(hello.process);
    if (auto text = other_job(hello, own_); !text.empty()) return {.is_usage = 1, .text = text};
    if (hello.size != roster.size() || hello.rank < 0 || hello.rank >= roster.size()) {
      return {.is_usage = 0,
              .text = detail::join("control connection: rank ", hello.rank, " of ", hello.size,
                                   " on ", where, " came late: ", roster.size(),
                                   " ranks go on without it; end it, or restart the job")};
    }
    return {.is_usage = 1,
            .text = "control connection: " + roster.name(hello.rank) +
                    " is there already, and another came from " + where};
  }

  Hello own_;
  Diagnosis diagnosis_;
  Shelf shelf_;
  std::vector<Line> lines_;
  Door door_;
  /// Kept until the next, so that the refusal arrives.
  Line turned_away_{Socket()};
  Time next_sign_;
  bool has_announced_ = false;
};

}  // namespace

std::unique_ptr<Loop> make_coordinator(ControlOptions& options, int listener,
                                       std::shared_ptr<FirstCause> cause,
                                       std::string& own_address) {
  constexpr size_t kStrangers = 64;
  const auto own = make_hello(options);
  Door door(listener, options.token, static_cast<size_t>(options.size) + kStrangers);
  auto joined = receive_all(options, own, door);
  options.size = joined.roster.size();
  own_address = most_used(joined.lines);
  return std::make_unique<Coordinator>(options, std::move(cause), std::move(joined),
                                       std::move(door), own);
}

}  // namespace isobar::control
