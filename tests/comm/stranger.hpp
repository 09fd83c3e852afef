// SPDX-License-Identifier: Apache-2.0
// Ports for tests, and who may have them.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "comm/control/control.hpp"
#include "comm/control/socket.hpp"

namespace isobar::test {

/// A port that nobody listens at now.
inline int free_port() { return ControlListener().port(); }

/// Somebody who takes connections and has nothing to say.
class Stranger {
 public:
  explicit Stranger(int port) : socket_(control::listen_on(port)) {
    thread_ = std::thread([this] {
      while (!stops_) {
        control::wait_readable(socket_.fd(), control::Clock::now() + std::chrono::milliseconds(10));
        int error = 0;
        control::accept_from(socket_.fd(), error);
      }
    });
  }
  ~Stranger() {
    stops_ = true;
    thread_.join();
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

 private:
  control::Socket socket_;
  std::atomic<bool> stops_{false};
  std::thread thread_;
};

}  // namespace isobar::test
