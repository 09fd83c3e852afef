// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/scaling/campaign.hpp>

#include <string>
#include <vector>

namespace isobar {

/// A campaign whose runs this program takes: each point's options are read as the program reads
/// them, so that a word that it does not know ends the campaign before its first run.
struct CheckedCampaign {
  Campaign campaign;
  std::vector<std::string> data_files;  ///< that training runs read
};

/// Of a file or a campaign's folder. Throws UsageError of one line.
CheckedCampaign read_checked_campaign(const std::string& path,
                                      const std::vector<std::string>& overrides);

}  // namespace isobar
