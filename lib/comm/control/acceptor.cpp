// SPDX-License-Identifier: Apache-2.0
#include "comm/control/acceptor.hpp"

#include <variant>

namespace isobar::control {
namespace {

constexpr std::chrono::seconds kHelloLimit{5};

}  // namespace

void Acceptor::accept_all(Time now) {
  while (waiting_.size() < most_waiting_) {
    auto socket = accept_from(listener_);
    if (!socket) return;
    waiting_.push_back({Connection(std::move(socket)), now});
  }
}

std::vector<Newcomer> Acceptor::newcomers(Time now) {
  accept_all(now);
  std::vector<Newcomer> known;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    auto messages = it->connection.receive();
    auto* hello = messages.empty() ? nullptr : std::get_if<Hello>(&messages.front());
    const bool is_ours = hello && hello->token == token_ && it->connection.is_open();
    if (is_ours) {
      it->connection.trust();
      known.push_back({std::move(it->connection), std::move(*hello)});
    }
    const bool waits =
        messages.empty() && it->connection.is_open() && now - it->since < kHelloLimit;
    it = waits ? std::next(it) : waiting_.erase(it);
  }
  return known;
}

}  // namespace isobar::control
