// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/collective_arguments.hpp>

#include <isobar/core/error.hpp>

#include <charconv>

namespace isobar::bench {

int parse_repeats(const std::string& text) {
  if (text == "auto") return 0;
  int repeats = 0;
  const auto end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, repeats);
  ISOBAR_CHECK(error == std::errc() && rest == end && repeats > 0, "'", text,
               "' is no number of repeats; write 20 or auto");
  return repeats;
}

}  // namespace isobar::bench
