// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/error.hpp>

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

}  // namespace isobar::bench
