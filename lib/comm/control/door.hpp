// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <list>
#include <string>
#include <utility>
#include <vector>

#include "comm/control/line.hpp"

namespace isobar::control {

/// Somebody who knows the job's token.
struct Newcomer {
  Line line;
  Hello hello;
};

/// Where processes come to rank 0. Strangers, who say something else or nothing for
/// some seconds, are turned away without a word. Nothing blocks but wait().
class Door {
 public:
  /// `listener` is borrowed; `crowd` may wait at a time.
  Door(int listener, std::string token, size_t crowd)
      : listener_(listener), token_(std::move(token)), crowd_(crowd) {}

  std::vector<Newcomer> newcomers(Time now);

  /// Blocks until somebody comes or the time is over.
  void wait(Time until) const { wait_readable(listener_, until); }

 private:
  struct Waiting {
    Line line;
    Time since;
  };

  void let_in(Time now);

  int listener_;
  std::string token_;
  size_t crowd_;
  std::list<Waiting> waiting_;
};

}  // namespace isobar::control
