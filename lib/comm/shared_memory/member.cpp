// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/member.hpp"

#include <mutex>
#include <utility>
#include <vector>

#include "comm/backend/fork.hpp"
#include "comm/backend/keeper.hpp"
#include "comm/backend/operation_facts.hpp"

namespace isobar {
namespace {

/// Members whose communicator is gone and whose last operations are not done yet. Others wait for
/// those, so the program does not end before them. A forked child may: it has none of the threads.
class Retired {
 public:
  ~Retired() {
    if (home_.is_here()) return;
    for (auto& member : members_) keep_to_the_end(std::move(member));
  }

  static Retired& get() {
    static Retired retired;
    return retired;
  }

  void add(std::unique_ptr<SharedMember> member) {
    const std::lock_guard lock(mutex_);
    members_.push_back(std::move(member));
  }

 private:
  HomeProcess home_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<SharedMember>> members_;
};

}  // namespace

SharedMember::SharedMember(std::shared_ptr<SharedSegment> segment, int rank,
                           std::shared_ptr<FirstCause> cause, bool own_cores)
    : cause_(std::move(cause)),
      barrier_(std::make_shared<SharedBarrier>(std::move(segment), rank, cause_, own_cores)),
      queue_(std::make_shared<SharedQueue>(barrier_, cause_)),
      messages_(std::make_shared<SharedMessages>(barrier_, cause_)),
      subscription_(cause_,
                    [this] {
                      barrier_->segment().post_failure(cause_->message());
                      barrier_->segment().wake_all();
                      queue_->wake();
                      messages_->wake();
                    }),
      collectives_([this] {
        queue_->run();
        if (--working_ == 0) leave_if_closed();
      }) {}

SharedMember::~SharedMember() {
  collectives_.join();
  if (moving_.joinable()) moving_.join();
  leave_if_closed();
}

Work SharedMember::start(Operation operation) {
  if (!is_message(operation)) return queue_->push(std::move(operation));
  auto work = messages_->push(std::move(operation));
  if (!moving_.joinable() && messages_->has_pending()) {
    ++working_;
    moving_ = std::thread([this] {
      messages_->run();
      if (--working_ == 0) leave_if_closed();
    });
  }
  return work;
}

void SharedMember::retire(std::unique_ptr<SharedMember> member, Presence how) noexcept {
  const bool done = member->close(how);
  if (!done) Retired::get().add(std::move(member));
}

bool SharedMember::close(Presence how) {
  presence_ = how;
  if (how == Presence::left_by_exception) barrier_->stop();
  const bool no_collectives = queue_->close();
  const bool no_messages = messages_->close();
  return (no_collectives && no_messages) || barrier_->stopped();
}

void SharedMember::leave_if_closed() noexcept {
  const auto presence = presence_.load();
  if (presence != Presence::attached) barrier_->segment().leave(barrier_->rank(), presence);
}

}  // namespace isobar
