// SPDX-License-Identifier: Apache-2.0
#include "cli/scores_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string>

namespace isobar {

namespace {

/// Three decimals; of small numbers, such as metres of rain, three digits instead. "-" for what is
/// not known.
std::string figure(double value) {
  if (std::isnan(value)) return "-";
  const bool is_small = value != 0 && std::abs(value) < 0.0995;
  return is_small ? fmt::format("{:.3g}", value) : fmt::format("{:.3f}", value);
}

/// Of a forecast: one that is no number is not as one that is not known.
std::string forecast_figure(const VariableScore& score, double value) {
  return score.known > 0 && std::isnan(value) ? "nan" : figure(value);  // whatever its sign
}

std::string ratio_text(const VariableScore& score) {
  return score.has_ratio() ? figure(score.rmse / score.persistence) : "-";
}

/// What the reference is called, which is of the same time of day as the target.
const char* reference_name(const std::vector<LeadScore>& scores) {
  const bool same = std::all_of(scores.begin(), scores.end(),
                                [](const LeadScore& lead) { return lead.lead_hours <= 24; });
  return same ? "24 h earlier" : "days earlier";
}

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
  std::string text = fmt::format("{:>5}  {:<8}{:>8} {:>8} {:>11} {:>12} {:>6} {}{:>7}\n", "lead",
                                 "variable", "RMSE", "bias", "persistence", reference_name(scores),
                                 "ratio", acc ? "    ACC " : "", "samples");
  for (const auto& lead : scores) {
    for (const auto& s : lead.variables) {
      text += fmt::format(
          "{:>3} h  {:<8}{:>8} {:>8} {:>11} {:>12} {:>6} {}{:>7}\n", lead.lead_hours, s.variable,
          forecast_figure(s, s.rmse), forecast_figure(s, s.bias), figure(s.persistence),
          figure(s.previous_day), ratio_text(s),
          acc ? fmt::format("{:>7} ", std::isnan(s.acc) ? "-" : fmt::format("{:.3f}", s.acc)) : "",
          lead.samples);
    }
  }
  text += "RMSE, bias: weighted by area, in own units; ratio: RMSE to persistence's.\n";
  if (reference_name(scores) != std::string("24 h earlier")) {
    text +=
        "days earlier: the last field known at the analysis that has the target's time of day.\n";
  }
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
