// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

namespace isobar {

/// Threads that begin jobs in the order in which they came.
class JobQueue {
 public:
  /// As many threads as there are jobs at a time, but `threads` at most; with one,
  /// a job begins when the one before it has ended. Jobs do not throw.
  explicit JobQueue(int threads);

  /// Does the jobs that are left, waiting for a moment only: a thread that is held up
  /// in one (its peer is gone) is left behind with what its job refers to.
  ~JobQueue();
  JobQueue(const JobQueue&) = delete;
  JobQueue& operator=(const JobQueue&) = delete;

  /// The destructor waits for nobody: the jobs are held up, and it is known.
  void abandon();

  /// Never blocks. The job keeps alive what it refers to.
  void add(std::function<void()> job);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace isobar
