// SPDX-License-Identifier: Apache-2.0
// Under what a run was made: what has to be the same in all runs of a campaign for their times to
// be compared.
#pragma once

#include <isobar/scaling/campaign.hpp>
#include <isobar/scaling/campaign_run.hpp>
#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace isobar {

/// Of a run that begins now: fixed settings, commit, program, data, environment, processor.
nlohmann::json conditions_now(const Campaign& campaign, const CampaignRunOptions& options);

/// What differs, such as "environment.OMP_NUM_THREADS: 1 and 2". Data are compared where both have
/// the file.
std::vector<std::string> condition_differences(const nlohmann::json& a, const nlohmann::json& b);

/// The variables of an environment that change what a run measures.
bool is_condition(const std::string& variable);

}  // namespace isobar
