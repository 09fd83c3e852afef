// SPDX-License-Identifier: Apache-2.0
// Control connections of ranks that are threads of one process, each with its own cause.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/control/authentication.hpp"
#include "comm/control/control.hpp"
#include "comm/control/join.hpp"

namespace isobar::test {

struct ControlRank {
  std::shared_ptr<FirstCause> cause = std::make_shared<FirstCause>();
  std::shared_ptr<Control> control;
};

inline ControlOptions control_options(int rank, int size, int port) {
  return {.rank = rank,
          .size = size,
          .host = "n" + std::to_string(rank),
          .addresses = {"127.0.0.1"},
          .port = port,
          .token = "job",
          .secret = "of these ranks alone",
          .start_timeout = std::chrono::seconds(20),
          .grace = std::chrono::milliseconds(300),
          .silence_limit = std::chrono::seconds(10)};
}

/// A connection of the rank of these options, known to rank 0, that has said nothing more.
inline control::Connection introduced(const ControlOptions& options) {
  std::string error;
  const auto limit = control::Clock::now() + std::chrono::seconds(10);
  control::Connection connection(control::connect_to("127.0.0.1", options.port, limit, error),
                                 control::Hears::unproven);
  control::Introduction introduction(control::credentials_of(options, options.port),
                                     control::make_hello(options));
  while (connection.is_open() && introduction.state() == control::Introduction::State::waits) {
    control::wait_readable(connection.socket().fd(), limit);
    for (const auto& message : connection.receive()) introduction.take(message, connection);
  }
  return connection;
}

/// Opens one rank in a thread of its own; `listener` is rank 0's.
inline std::future<std::shared_ptr<Control>> opening(
    const ControlOptions& options, std::unique_ptr<ControlListener> listener = nullptr) {
  return std::async(
      std::launch::async,
      [options](std::unique_ptr<ControlListener> socket) {
        return Control::open(options, std::move(socket), std::make_shared<FirstCause>());
      },
      std::move(listener));
}

/// Opens every rank in a thread of its own, with options that `change` may alter.
inline std::vector<ControlRank> open_world(
    int size, const std::function<void(ControlOptions&)>& change = [](ControlOptions&) {}) {
  auto listener = std::make_unique<ControlListener>();
  const int port = listener->port();
  std::vector<std::future<ControlRank>> opening;
  for (int r = 0; r < size; ++r) {
    auto own = r == 0 && size > 1 ? std::move(listener) : nullptr;
    auto open = [=](std::unique_ptr<ControlListener> socket) {
      ControlRank rank;
      auto options = control_options(r, size, port);
      change(options);
      rank.control = Control::open(options, std::move(socket), rank.cause);
      return rank;
    };
    opening.push_back(std::async(std::launch::async, open, std::move(own)));
  }
  std::vector<ControlRank> world;
  for (auto& one : opening) world.push_back(one.get());
  return world;
}

/// The cause once there is one, or "none" after `limit`.
inline std::string cause_within(const FirstCause& cause, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!cause.failed() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return cause.failed() ? cause.message() : "none";
}

}  // namespace isobar::test
