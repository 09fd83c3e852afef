// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "comm/control/authentication.hpp"
#include "comm/control/connection.hpp"
#include "comm/control/control.hpp"

namespace isobar::control {

/// Whether another rank 0 listens at the address where the others seek theirs, which is not this
/// one's own: whoever exports RANK=0 once for several nodes has a rank 0 on each, and only one of
/// them is found.
class DuplicateRankCheck {
 public:
  /// Looks nowhere where `options` name no addresses. Both must outlive this.
  DuplicateRankCheck(const ControlOptions& options, const Hello& own)
      : options_(options), own_(own) {}

  /// The words in which a rank 0 there refuses this one, once it has. To be called often; blocks
  /// for some milliseconds now and then.
  std::optional<std::string> poll(Time now);

 private:
  void connect();

  const ControlOptions& options_;
  const Hello& own_;
  Connection connection_{Socket(), Hears::unproven};
  std::optional<Introduction> introduction_;
  size_t tries_ = 0;
  Time next_;
};

}  // namespace isobar::control
