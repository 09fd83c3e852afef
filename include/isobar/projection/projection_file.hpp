// SPDX-License-Identifier: Apache-2.0
// A projection as a YAML file, and as tables. docs/projection.md describes the file.
#pragma once

#include <isobar/core/config.hpp>
#include <isobar/projection/projection.hpp>
#include <nlohmann/json_fwd.hpp>

#include <map>
#include <string>
#include <vector>

namespace isobar {

struct Projection {
  std::string name = {};
  std::string campaign = {};  ///< whose measured rows they stand beside; the name by default
  std::vector<int> nodes = {};
  ProjectionInput input = {};
  /// What the figures rest on, by part ("compute": "measured on 4 nodes"), as the file says it.
  std::map<std::string, std::string> basis = {};
};

/// Reads a projection whole, and the reports that it names, relative to the working directory.
/// Throws UsageError of one line.
Projection read_projection(const Config& config);

/// A projection with its result.
struct ProjectedCurve {
  Projection projection = {};
  std::vector<ProjectedStep> steps = {};
};

/// The first number of nodes, of those that both have, from which on the efficiencies (medians)
/// of two curves differ by `difference` or more; 0 for none.
int curves_part(const ProjectedCurve& a, const ProjectedCurve& b, double difference = 0.02);

/// A table for people: each curve's steps and what they rest on, and where the curves part.
std::string projection_table(const std::vector<ProjectedCurve>& curves);

/// Rows as those of `isobar campaign collect`, with the projection's name as `cluster`; each says
/// "projected": true.
nlohmann::json projection_rows(const std::vector<ProjectedCurve>& curves);

/// As lines of values between commas, with a heading.
std::string projection_csv(const std::vector<ProjectedCurve>& curves);

}  // namespace isobar
