// SPDX-License-Identifier: Apache-2.0
// A run as a job of Slurm's.
#pragma once

#include <isobar/cluster/profile.hpp>
#include <isobar/scaling/campaign.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace isobar {

/// Queues a run that `words` start on every rank; its batch script, jobs.jsonl and Slurm's output
/// lie in `folder`. Throws UsageError where the machine or sbatch refuses it.
void submit_run(const ClusterProfile& profile, const Campaign& campaign, const CampaignPoint& point,
                const std::vector<std::string>& words, const std::filesystem::path& folder);

/// Asks Slurm after a queued run. One that has ended gets its record, and is set aside where it has
/// failed. False where it goes on.
bool settle_run(const Campaign& campaign, const std::filesystem::path& folder);

}  // namespace isobar
