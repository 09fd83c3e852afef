// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/error.hpp>

#include <functional>
#include <string>
#include <vector>

#include "comm/expect_error.hpp"

namespace isobar::test {

/// `act` throws a UsageError that has all of these words.
inline void expect_refusal(const std::function<void()>& act,
                           const std::vector<std::string>& words) {
  const auto text = error_of<UsageError>(act);
  for (const auto& word : words) expect_contains(text, word);
}

}  // namespace isobar::test
