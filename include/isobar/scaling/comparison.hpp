// SPDX-License-Identifier: Apache-2.0
// Whether one set of measurements is slower than another, by more than their noise.
#pragma once

#include <isobar/scaling/campaign.hpp>
#include <isobar/scaling/statistics.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace isobar {

/// A point that was measured.
struct MeasuredPoint {
  CampaignValues values = {};        ///< what tells it from others, by name
  std::vector<double> samples = {};  ///< of repeated runs; empty where only `measured` is known
  Ratio measured = {};               ///< one run's median and its interval
};

struct Measurements {
  std::string value = {};  ///< what was measured, such as "step_s"
  std::string commit = {};
  std::vector<MeasuredPoint> points = {};
  std::vector<std::string> left_out = {};  ///< runs of a campaign whose value was no number
};

/// Of a campaign's folder or file, of what `isobar campaign collect --json` has written, or of a
/// report of `isobar bench step` or `collective`. Throws UsageError for anything else.
Measurements read_measurements(const std::filesystem::path& path);

enum class Verdict { same, faster, slower };

struct ComparedPoint {
  CampaignValues values;
  double a = 0;
  double b = 0;
  Ratio ratio;  ///< b over a
  Verdict verdict = Verdict::same;
};

struct Comparison {
  std::vector<ComparedPoint> points;
  std::vector<CampaignValues> only_a;
  std::vector<CampaignValues> only_b;
};

/// By points that both have. B is slower or faster where the ratio's interval leaves 1 out and its
/// value is away from 1 by `tolerance` or more. Throws UsageError where they have no point in
/// common or measure different things.
Comparison compare_measurements(const Measurements& a, const Measurements& b,
                                double tolerance = 0.02);

}  // namespace isobar
