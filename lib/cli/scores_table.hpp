// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/train/forecast_scores.hpp>
#include <isobar/train/forecast_spectra.hpp>

#include <string>
#include <vector>

namespace isobar {

/// A table of scores for people.
std::string scores_table(const std::vector<LeadScore>& scores);

/// The forecast's power over the truth's on large, medium and small scales; empty for none.
std::string spectra_table(const std::vector<LeadSpectra>& spectra);

}  // namespace isobar
