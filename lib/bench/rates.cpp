// SPDX-License-Identifier: Apache-2.0
#include "bench/rates.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace isobar::bench {

nlohmann::json rate_or_null(double gbit_s) {
  return gbit_s > 0 ? nlohmann::json(gbit_s) : nlohmann::json();
}

std::string stream_line(const nlohmann::json& row) {
  if (!row["goodput_gbit_s"].is_number()) return {};
  return fmt::format("\na plain TCP stream ({}) carries {:.3f} Gbit/s",
                     row["goodput_path"].get<std::string>(), row["goodput_gbit_s"].get<double>());
}

}  // namespace isobar::bench
