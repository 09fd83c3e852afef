// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/backend/first_cause.hpp"
#include "comm/nccl/api.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {

struct NcclLinkOptions {
  int rank = 0;
  int size = 1;
  int device = 0;
  bool deterministic = false;
  bool serialise = true;
  int few_ranks = ScheduleTuning().few_ranks;
};

/// One communicator of NCCL's with the stream that its operations run on, from
/// its first use to its end. Safe to use from several threads.
class NcclLink : public std::enable_shared_from_this<NcclLink> {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr const char* kGivenUp = "the communicator was given up";

  /// `slot` is filled.
  NcclLink(std::shared_ptr<const NcclApi> api, std::shared_ptr<NcclSlot> slot,
           const NcclLinkOptions& options, std::shared_ptr<FirstCause> cause);

  /// Makes a world's communicator; blocks until all its ranks have come. Throws
  /// CommError, `where` in front.
  static std::shared_ptr<NcclSlot> connect(const std::shared_ptr<const NcclApi>& api,
                                           const NcclLinkOptions& options,
                                           const std::vector<char>& id, FirstCause& cause,
                                           const std::string& where,
                                           std::chrono::milliseconds timeout);

  /// Makes the communicator of this rank's color; null for a negative one. Blocks
  /// and throws like connect().
  std::shared_ptr<NcclSlot> split(int color, int key, const std::string& where,
                                  std::chrono::milliseconds timeout);

  const NcclApi& api() const noexcept { return *api_; }
  const std::shared_ptr<const NcclApi>& shared_api() const noexcept { return api_; }
  const NcclLinkOptions& options() const noexcept { return options_; }
  DeviceStream stream() const noexcept { return stream_; }
  FirstCause& cause() const noexcept { return *cause_; }

  /// What is called now throws.
  bool is_given_up() const noexcept { return given_up_; }

  /// Calls NCCL and waits until its work is on the stream. Throws CommError for
  /// NCCL's error and once the communicator has been given up.
  void call(const std::function<NcclStatus(NcclComm)>& work);

  /// NCCL's own view; success where it is in use or given up.
  NcclStatus status();

  /// Gives the communicator up: NCCL's kernels leave the device. Never blocks.
  void abort() noexcept;

  /// Ends the communicator: in good order, or given up where its world has failed.
  /// Blocks for `limit` at most; whatever then still hangs is left behind.
  void close(std::chrono::milliseconds limit) noexcept;

 private:
  NcclStatus use(const std::function<NcclStatus(NcclComm)>& work);
  void end_in_a_thread(void (NcclLink::*end)()) noexcept;
  void end_by_abort();
  void end_in_order();
  void ended() noexcept;

  std::shared_ptr<const NcclApi> api_;
  std::shared_ptr<NcclSlot> slot_;
  NcclComm comm_;
  NcclLinkOptions options_;
  std::shared_ptr<FirstCause> cause_;
  DeviceStream stream_;

  /// Held during NCCL's calls on comm_.
  std::mutex use_;
  std::atomic<bool> given_up_{false};
  std::atomic<bool> ending_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
};

}  // namespace isobar
