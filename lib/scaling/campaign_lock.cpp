// SPDX-License-Identifier: Apache-2.0
#include "scaling/campaign_lock.hpp"

#include <sys/file.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace isobar {

CampaignLock::CampaignLock(const std::filesystem::path& folder) {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  const auto file = folder / "campaign.lock";
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    throw Error(detail::join("campaign's folder '", folder.string(),
                             "' cannot be used: ", std::strerror(errno)));
  }
  // File systems without locks answer with other errors: there two processes are not noticed.
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(descriptor_);
  throw CampaignBusy(detail::join("campaign: another process runs the one in ", folder.string(),
                                  "; wait for it, or give this one another name"));
}

CampaignLock::~CampaignLock() { ::close(descriptor_); }

}  // namespace isobar
