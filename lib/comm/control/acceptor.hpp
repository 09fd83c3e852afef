// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <list>
#include <string>
#include <utility>
#include <vector>

#include "comm/control/connection.hpp"

namespace isobar::control {

/// Somebody who knows the job's token.
struct Newcomer {
  Connection connection;
  Hello hello;
};

/// Accepts connections at rank 0 and knows which are of this job. Those that say something
/// else, or nothing for some seconds, are closed without a word. Nothing blocks but wait().
class Acceptor {
 public:
  /// `listener` is borrowed; `most_waiting` may wait at a time.
  Acceptor(int listener, std::string token, size_t most_waiting)
      : listener_(listener), token_(std::move(token)), most_waiting_(most_waiting) {}

  std::vector<Newcomer> newcomers(Time now);

  /// Blocks until somebody comes or the time is over.
  void wait(Time until) const { wait_readable(listener_, until); }

 private:
  struct Waiting {
    Connection connection;
    Time since;
  };

  void accept_all(Time now);

  int listener_;
  std::string token_;
  size_t most_waiting_;
  std::list<Waiting> waiting_;
};

}  // namespace isobar::control
