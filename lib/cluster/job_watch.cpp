// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/job_watch.hpp>

#include <isobar/core/error.hpp>

namespace isobar {

std::string JobWatch::look() {
  constexpr int kMostFailures = 10;
  const auto before = state_text(state_);
  try {
    state_ = ask_();
    failures_ = 0;
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    if (++failures_ == kMostFailures) throw;
    return failures_ == 1 ? std::string(error.what()) + "; it will be asked again" : "";
  }
  return state_text(state_) == before ? "" : state_text(state_);
}

std::string state_text(const JobState& job) {
  return job.reason.empty() ? job.state : job.state + ", " + job.reason;
}

}  // namespace isobar
