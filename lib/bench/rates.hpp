// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace isobar::bench {

/// A rate that was measured; null for one that was not, which is 0.
nlohmann::json rate_or_null(double gbit_s);

/// What a table says of a row's plain stream, from a line break on; empty where it has none.
std::string stream_line(const nlohmann::json& row);

}  // namespace isobar::bench
