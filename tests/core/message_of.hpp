// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace isobar::test {

/// What the exception of type E that `action` throws says; "nothing thrown"
/// where none is. Other exceptions pass through.
template <typename E, typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace isobar::test
