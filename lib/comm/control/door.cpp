// SPDX-License-Identifier: Apache-2.0
#include "comm/control/door.hpp"

#include <variant>

namespace isobar::control {
namespace {

constexpr std::chrono::seconds kPatience{5};

}  // namespace

void Door::let_in(Time now) {
  while (waiting_.size() < crowd_) {
    auto socket = accept_from(listener_);
    if (!socket) return;
    waiting_.push_back({Line(std::move(socket)), now});
  }
}

std::vector<Newcomer> Door::newcomers(Time now) {
  let_in(now);
  std::vector<Newcomer> known;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    auto messages = it->line.receive();
    auto* hello = messages.empty() ? nullptr : std::get_if<Hello>(&messages.front());
    const bool is_ours = hello && hello->token == token_ && it->line.is_open();
    if (is_ours) {
      it->line.trust();
      known.push_back({std::move(it->line), std::move(*hello)});
    }
    const bool waits = messages.empty() && it->line.is_open() && now - it->since < kPatience;
    it = waits ? std::next(it) : waiting_.erase(it);
  }
  return known;
}

}  // namespace isobar::control
