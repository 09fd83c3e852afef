// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace isobar {

namespace {

/// Training has no climatology at hand.
bool has_acc(const std::vector<LeadScore>& scores) {
  return std::any_of(scores.begin(), scores.end(), [](const LeadScore& lead) {
    return std::any_of(lead.variables.begin(), lead.variables.end(),
                       [](const VariableScore& score) { return !std::isnan(score.acc); });
  });
}

/// Places [begin, end) of a spectrum.
struct Band {
  size_t begin = 0, end = 0;
};

/// Large, medium and small scales, the last two a factor of three in wavelength each.
std::vector<Band> bands_of(size_t wavenumbers) {
  std::vector<Band> bands;
  size_t begin = 0;
  for (const size_t end : {wavenumbers / 9, wavenumbers / 3, wavenumbers}) {
    if (end > begin) bands.push_back({begin, end});
    begin = end;
  }
  return bands;
}

double sum(const std::vector<double>& power, const Band& band) {
  const auto at = [&](size_t place) { return power.begin() + static_cast<std::ptrdiff_t>(place); };
  return std::accumulate(at(band.begin), at(band.end), 0.0);
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

std::string spectra_table(const std::vector<LeadSpectra>& spectra) {
  if (spectra.empty()) return {};
  const auto bands = bands_of(spectra.front().variables.front().truth.size());
  std::string text = fmt::format("\n{:>6}  {:<10}", "lead", "variable");
  for (const Band& band : bands) {
    text += fmt::format(" {:>9}", fmt::format("{}-{}", band.begin + 1, band.end));
  }
  text += fmt::format(" {:>8}\n", "samples");
  for (const auto& lead : spectra) {
    for (const auto& s : lead.variables) {
      text += fmt::format("{:>4} h  {:<10}", lead.lead_hours, s.variable);
      for (const Band& band : bands) {
        text += fmt::format(" {:>9.3f}", sum(s.forecast, band) / sum(s.truth, band));
      }
      text += fmt::format(" {:>8}\n", s.samples);
    }
  }
  return text + "Power of the forecast over that of the truth, in bands of wavenumbers.\n";
}

}  // namespace isobar
