// SPDX-License-Identifier: Apache-2.0
// Checks of words on a command line, in the form in which CLI11 and others take them: a function
// from the word to the text of the error, empty where the word will do.
#pragma once

#include <isobar/core/error.hpp>

#include <charconv>
#include <cmath>
#include <string>

namespace isobar {

/// A check that takes what `parse` takes: its error is the text of the isobar::Error that `parse`
/// throws. Other exceptions pass through.
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

namespace detail {

/// NaN where the word is no finite number.
inline double parse_finite(const std::string& word) {
  double value = 0;
  const char* end = word.data() + word.size();
  const auto [rest, error] = std::from_chars(word.data(), end, value);
  const bool whole = error == std::errc() && rest == end && std::isfinite(value);
  return whole ? value : std::nan("");
}

}  // namespace detail

/// A finite number above 0. (CLI11's own check of that name prints the ends of a type's range.)
inline std::string check_positive(const std::string& word) {
  return detail::parse_finite(word) > 0 ? "" : "must be a number above 0, got " + word;
}

/// A finite number of 0 or more.
inline std::string check_not_negative(const std::string& word) {
  return detail::parse_finite(word) >= 0 ? "" : "must be a number of 0 or more, got " + word;
}

}  // namespace isobar
