// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace isobar {

namespace {

/// Training has no climatology at hand.
bool has_acc(const std::vector<LeadScore>& scores) {
  return std::any_of(scores.begin(), scores.end(), [](const LeadScore& lead) {
    return std::any_of(lead.variables.begin(), lead.variables.end(),
                       [](const VariableScore& score) { return !std::isnan(score.acc); });
  });
}

}  // namespace

std::string scores_table(const std::vector<LeadScore>& scores) {
  const bool acc = has_acc(scores);
  std::string text = fmt::format("{:>6}  {:<10} {:>8} {:>9} {:>12} {:>13} {:>7} {}{:>8}\n", "lead",
                                 "variable", "RMSE", "bias", "persistence", "24 h earlier", "ratio",
                                 acc ? "    ACC " : "", "samples");
  for (const auto& lead : scores) {
    for (const auto& s : lead.variables) {
      text += fmt::format(
          "{:>4} h  {:<10} {:>8.3f} {:>9.3f} {:>12.3f} {:>13.3f} {:>7.3f} {}{:>8}\n",
          lead.lead_hours, s.variable, s.rmse, s.bias, s.persistence, s.previous_day,
          s.rmse / s.persistence, acc ? fmt::format("{:>7.3f} ", s.acc) : "", lead.samples);
    }
  }
  text += "RMSE, bias: area-weighted, in the variable's units; ratio: RMSE to persistence's.\n";
  if (acc)
    text += "ACC: anomaly correlation, with the mean of the training period by hour of day.\n";
  return text;
}

}  // namespace isobar
