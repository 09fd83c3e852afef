// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/compress/acp_sgd.hpp>
#include <isobar/compress/power_sgd.hpp>
#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>

namespace isobar::test {

enum class Method { acp, power };

inline std::shared_ptr<Compressor> make(Method method, const LowRankOptions& options) {
  return method == Method::acp ? make_acp_sgd(options) : make_power_sgd(options);
}

inline std::string name_of(Method method) { return method == Method::acp ? "acp" : "power"; }

inline void PrintTo(Method method, std::ostream* out) { *out << name_of(method); }

const auto kMethods = testing::Values(Method::acp, Method::power);

}  // namespace isobar::test
