// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "comm/control/message.hpp"

namespace isobar::control {

/// What ranks leave for each other at rank 0 while they connect a transport.
class StoreServer {
 public:
  /// A rank and what it gets.
  using Answer = std::pair<int, Found>;

  /// True if `message` of `rank` was one for the store; what is to be sent because of
  /// it is added to `answers`.
  bool take(int rank, const ControlMessage& message, std::vector<Answer>& answers);

 private:
  std::map<std::string, std::string> values_;
  /// Ranks that wait for a value.
  std::map<std::string, std::vector<int>> wanted_;
};

}  // namespace isobar::control
