// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/Parallel.h>

#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/first_cause.hpp"
#include "comm/backend/keeper.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/threads/group.hpp"

namespace isobar {
namespace {

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadGroup> group, int rank,
                     std::chrono::milliseconds timeout)
      : Communicator(rank, group->size(), timeout, group->family().cause),
        group_(std::move(group)) {}

  ~ThreadCommunicator() override {
    if (first_cause()->is_copy()) {  // a lock that another rank's thread held is never freed
      keep_to_the_end(std::move(group_));
      return;
    }
    const bool unwinding = std::uncaught_exceptions() > 0;
    group_->leave(rank(), unwinding ? "an exception ended it" : kDestroyed);
  }

 private:
  Work do_start(Operation operation) override {
    if (size() == 1) return complete_alone(operation);
    check_on_cpu(operation, backend());
    return group_->join(rank(), std::move(operation));
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    const auto part = agree_on_split(*this, color, key);
    const auto split = splits_++;
    if (color < 0) return nullptr;
    return std::make_unique<ThreadCommunicator>(group_->child(split, color, part.size), part.rank,
                                                timeout());
  }

  std::string_view do_backend() const noexcept override { return "threads"; }

  void do_abort(const std::string& reason) override { group_->abort(rank(), reason); }

  std::shared_ptr<ThreadGroup> group_;
  int64_t splits_ = 0;
};

std::vector<std::unique_ptr<ThreadCommunicator>> make_world(std::shared_ptr<ThreadFamily> family,
                                                            int size,
                                                            std::chrono::milliseconds timeout) {
  ISOBAR_CHECK(size > 0, "make_thread_world: the size must be positive, got ", size);
  const auto group = std::make_shared<ThreadGroup>(std::move(family), size);
  std::vector<std::unique_ptr<ThreadCommunicator>> world;
  for (int r = 0; r < size; ++r) {
    world.push_back(std::make_unique<ThreadCommunicator>(group, r, timeout));
  }
  return world;
}

/// The exceptions of the ranks in the order of time.
class RankErrors {
 public:
  void add(std::exception_ptr error, std::string message) {
    const std::lock_guard lock(mutex_);
    errors_.push_back({std::move(error), std::move(message)});
  }

  /// Rethrows the first, passing over those that only echo that another rank
  /// left: a rank's sub-communicators are gone before its own exception is here.
  void rethrow(const ThreadFamily& family) const {
    if (errors_.empty()) return;
    const auto echo = family.cause_is_leaving ? family.cause->message() : std::string();
    for (const auto& [error, message] : errors_) {
      if (message != echo) std::rethrow_exception(error);
    }
    std::rethrow_exception(errors_.front().first);
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::exception_ptr, std::string>> errors_;
};

void run_rank(std::unique_ptr<ThreadCommunicator> comm,
              const std::function<void(Communicator&)>& body, RankErrors& errors) {
  at::set_num_threads(1);
  std::string message = "an exception of unknown type";
  try {
    body(*comm);
    return;
  } catch (const std::exception& error) {
    message = error.what();
    errors.add(std::current_exception(), message);
  } catch (...) {
    errors.add(std::current_exception(), message);
  }
  comm->abort(message);
}

/// Gives the process back the number of intra-op threads that it had: LibTorch
/// keeps the last value set by any thread as the default of new ones. Where this process is a fork,
/// the first that sets one makes LibTorch's pool anew, which two ranks must not do at a time.
class KeepIntraOpThreads {
 public:
  KeepIntraOpThreads() : before_(at::get_num_threads()) { at::set_num_threads(before_); }
  ~KeepIntraOpThreads() { at::set_num_threads(before_); }
  KeepIntraOpThreads(const KeepIntraOpThreads&) = delete;
  KeepIntraOpThreads& operator=(const KeepIntraOpThreads&) = delete;

 private:
  int before_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_world(int size,
                                                             std::chrono::milliseconds timeout) {
  std::vector<std::unique_ptr<Communicator>> world;
  for (auto& comm : make_world(std::make_shared<ThreadFamily>(), size, timeout)) {
    world.push_back(std::move(comm));
  }
  return world;
}

void run_ranks(int size, const std::function<void(Communicator&)>& body,
               std::chrono::milliseconds timeout) {
  const KeepIntraOpThreads keep;
  const auto family = std::make_shared<ThreadFamily>();
  RankErrors errors;
  std::vector<std::thread> threads;
  for (auto& comm : make_world(family, size, timeout)) {
    threads.emplace_back(run_rank, std::move(comm), std::cref(body), std::ref(errors));
  }
  for (auto& thread : threads) thread.join();
  errors.rethrow(*family);
}

}  // namespace isobar
