// SPDX-License-Identifier: Apache-2.0
#include "comm/control/rival.hpp"

#include <variant>

namespace isobar::control {
namespace {

constexpr Milliseconds kPace{500};
/// Within a cluster an answer takes less; rank 0 receives nobody meanwhile.
constexpr Milliseconds kConnectLimit{20};

}  // namespace

std::optional<std::string> Rival::look(Time now) {
  if (options_.addresses.empty()) return std::nullopt;
  for (const auto& message : line_.receive()) {
    const auto* refused = std::get_if<Refused>(&message);
    if (refused && refused->is_usage) return refused->text;
  }
  if (line_.is_open() || now < next_) return std::nullopt;
  next_ = now + kPace;
  greet();
  return std::nullopt;
}

void Rival::greet() {
  const auto& address = options_.addresses[tries_++ % options_.addresses.size()];
  std::string error;
  line_ =
      Line(connect_to(address, options_.port, Clock::now() + kConnectLimit, error), kMessageBytes);
  line_.send(own_);
}

}  // namespace isobar::control
