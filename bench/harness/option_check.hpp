// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/error.hpp>

#include <charconv>
#include <cmath>
#include <string>

namespace isobar::bench {

/// A check of CLI11's: the text of the error, empty where `parse` takes the word.
template <typename Parse>
auto checked_by(Parse parse) {
  return [parse](const std::string& word) -> std::string {
    try {
      parse(word);
      return {};
    } catch (const Error& error) {
      return error.what();
    }
  };
}

/// NaN where the word is no finite number.
inline double parse_finite(const std::string& word) {
  double value = 0;
  const char* end = word.data() + word.size();
  const auto [rest, error] = std::from_chars(word.data(), end, value);
  const bool whole = error == std::errc() && rest == end && std::isfinite(value);
  return whole ? value : std::nan("");
}

/// Checks of CLI11's for numbers. Its own of these names print the ends of a type's range.
inline std::string check_positive(const std::string& word) {
  return parse_finite(word) > 0 ? "" : "must be a number above 0, got " + word;
}
inline std::string check_not_negative(const std::string& word) {
  return parse_finite(word) >= 0 ? "" : "must be a number of 0 or more, got " + word;
}

}  // namespace isobar::bench
