// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "comm/control/control.hpp"
#include "comm/control/line.hpp"

namespace isobar::control {

/// A rank 0's look at the address where the others seek theirs, which is not its own: whoever
/// exports RANK=0 once for several nodes has a rank 0 on each, and only one of them is found.
class Rival {
 public:
  /// Looks nowhere where `options` name no addresses. Both must outlive this.
  Rival(const ControlOptions& options, const Hello& own) : options_(options), own_(own) {}

  /// The words in which a rank 0 there refuses this one, once it has. To be called often; blocks
  /// for some milliseconds now and then.
  std::optional<std::string> look(Time now);

 private:
  void greet();

  const ControlOptions& options_;
  const Hello& own_;
  Line line_{Socket(), kMessageBytes};
  size_t tries_ = 0;
  Time next_;
};

}  // namespace isobar::control
