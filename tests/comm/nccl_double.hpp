// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/nccl/api.hpp"
#include "comm/nccl/communicator.hpp"

namespace isobar::test {

/// What goes wrong, and how slow things are. Operations count from 0 on each rank.
struct NcclFaults {
  /// This rank's operation never starts: its kernel waits for ever.
  int hanging_rank = -1;
  int hanging_operation = 0;
  /// NCCL reports an error of this rank's at this operation, which never ends.
  int failing_rank = -1;
  int failing_operation = 0;
  /// Calls that answer "in progress" before an operation is on the stream.
  int answers_in_progress = 2;
  std::chrono::milliseconds init_delay{0};
  bool abort_hangs = false;
  /// A call for an operation does not return.
  int stuck_rank = -1;
  /// The stream of a task is the host itself, where everything is done at once: for tasks that
  /// compute with tensors, which on the CPU waits for no stream.
  bool tasks_on_host = false;
};

/// NCCL and one device a rank, in memory: ranks are threads, a stream is a thread
/// that takes what is put on it in order, and a kernel waits for its peers as NCCL's
/// do. Sums are made in a ring's order and rounded at every hop.
class NcclDouble {
 public:
  explicit NcclDouble(int size, const NcclFaults& faults = {});
  ~NcclDouble();
  NcclDouble(const NcclDouble&) = delete;
  NcclDouble& operator=(const NcclDouble&) = delete;

  /// The table of rank `rank`, which is a process of its own.
  std::shared_ptr<const NcclApi> api(int rank);

  /// What a rank has put on its streams, such as "allreduce on 1".
  std::vector<std::string> issued(int rank) const;

  /// Operations that were on the device of a rank at the same time, at most.
  int most_at_once(int rank) const;

  /// Communicators neither destroyed nor aborted.
  int communicators() const;

  /// Calls that NCCL does not allow, such as one on a communicator that is gone.
  std::vector<std::string> violations() const;

  /// Lets go of everything that hangs.
  void release();

  struct Fabric;

 private:
  friend class CallerStream;
  std::shared_ptr<Fabric> fabric_;
};

/// While it lives, the calling thread's current stream on the device of `rank`;
/// otherwise that is the host itself, where everything is done at once.
class CallerStream {
 public:
  CallerStream(NcclDouble& nccl, int rank);
  ~CallerStream();
  CallerStream(const CallerStream&) = delete;
  CallerStream& operator=(const CallerStream&) = delete;

  void put(std::function<void()> work);

  /// From now on it captures, or no longer.
  void capture(bool captures);

 private:
  std::shared_ptr<const NcclApi> api_;
  int64_t stream_;
};

/// A rank's own first cause, or one for all as the control connection makes it.
enum class Causes { shared, own };

struct DoubleWorldOptions {
  std::chrono::milliseconds timeout{20'000};
  bool deterministic = false;
  bool serialise = true;
  int few_ranks = NcclOptions().few_ranks;
  Causes causes = Causes::shared;
};

/// Runs `body` on each rank of a world over `nccl`, a thread a rank. An exception
/// of a body is a failure of the test.
void run_on_double(NcclDouble& nccl, int size, const DoubleWorldOptions& options,
                   const std::function<void(Communicator& world)>& body);

}  // namespace isobar::test
