// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.hpp"

#include <fmt/format.h>

namespace isobar {

std::string scores_table(const std::vector<LeadScore>& scores) {
  std::string text =
      fmt::format("{:>6}  {:<10} {:>8} {:>9} {:>12} {:>13} {:>7} {:>8}\n", "lead", "variable",
                  "RMSE", "bias", "persistence", "24 h earlier", "ratio", "samples");
  for (const auto& lead : scores) {
    for (const auto& s : lead.variables) {
      text += fmt::format("{:>4} h  {:<10} {:>8.3f} {:>9.3f} {:>12.3f} {:>13.3f} {:>7.3f} {:>8}\n",
                          lead.lead_hours, s.variable, s.rmse, s.bias, s.persistence,
                          s.previous_day, s.rmse / s.persistence, lead.samples);
    }
  }
  return text +
         "RMSE, bias: area-weighted, in the variable's units; ratio: RMSE to persistence's.\n";
}

}  // namespace isobar
