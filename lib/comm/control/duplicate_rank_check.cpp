// SPDX-License-Identifier: Apache-2.0
#include "comm/control/duplicate_rank_check.hpp"

#include <variant>

namespace isobar::control {
namespace {

constexpr Milliseconds kCheckPace{500};
/// Within a cluster an answer takes less; rank 0 receives nobody meanwhile.
constexpr Milliseconds kCheckLimit{20};

}  // namespace

std::optional<std::string> DuplicateRankCheck::poll(Time now) {
  if (options_.addresses.empty()) return std::nullopt;
  for (const auto& message : connection_.receive()) {
    const auto* refused = std::get_if<Refused>(&message);
    if (refused && refused->is_usage) return refused->text;
    // A stranger there is not asked again soon: the connection stays as long as it lets it.
    if (!refused && introduction_->state() == Introduction::State::waits) {
      introduction_->take(message, connection_);
    }
  }
  if (connection_.is_open() || now < next_) return std::nullopt;
  next_ = now + kCheckPace;
  connect();
  return std::nullopt;
}

void DuplicateRankCheck::connect() {
  const auto& address = options_.addresses[tries_++ % options_.addresses.size()];
  std::string error;
  connection_ = Connection(connect_to(address, options_.port, Clock::now() + kCheckLimit, error),
                           Hears::unproven);
  introduction_.emplace(credentials_of(options_, options_.port), own_);
}

}  // namespace isobar::control
