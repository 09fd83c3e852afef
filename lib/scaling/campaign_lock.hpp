// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/core/error.hpp>

#include <filesystem>

namespace isobar {

/// Another process has the campaign.
class CampaignBusy : public UsageError {
 public:
  using UsageError::UsageError;
};

/// A campaign's folder, made where it is missing, for one process at a time. The system gives the
/// lock up when the process ends, however it does. Throws CampaignBusy where another has it.
class CampaignLock {
 public:
  explicit CampaignLock(const std::filesystem::path& folder);
  ~CampaignLock();
  CampaignLock(const CampaignLock&) = delete;
  CampaignLock& operator=(const CampaignLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace isobar
