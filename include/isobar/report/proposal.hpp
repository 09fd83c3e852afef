// SPDX-License-Identifier: Apache-2.0
// The section on scaling of a proposal for machine time, made of a campaign and of projections.
#pragma once

#include <isobar/report/report.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace isobar {

struct ProposalOptions {
  /// Samples that one node takes in a step; 0: those of the campaign's `batch`, times its ranks of
  /// a node.
  double samples_per_step = 0;
  /// Samples of the training that is applied for, for node hours; 0: node hours of a million.
  double samples = 0;
};

/// What EuroHPC's forms ask for: of each number of nodes samples a second, the efficiency with its
/// interval, node hours, and energy, which is n/a where no counter was read. Measured points are
/// those of the campaign's folder or file, projected ones of reports of `isobar project --json`;
/// each have a table of their own, and what they rest on. Throws UsageError where the campaign does
/// not measure a step's time, where no run of it is done and where its samples are not known.
Report make_proposal(const std::filesystem::path& campaign,
                     const std::vector<std::filesystem::path>& projections,
                     const ProposalOptions& options = {});

/// A report's notes and tables as Markdown; charts are left out, their tables stay.
std::string report_as_markdown(const Report& report);

}  // namespace isobar
