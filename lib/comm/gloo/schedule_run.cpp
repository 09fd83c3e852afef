// SPDX-License-Identifier: Apache-2.0
#include "comm/gloo/schedule_run.hpp"

#include <ATen/ops/from_blob.h>

#include <iterator>
#include <utility>

namespace isobar {
namespace {

/// Above every tag of the user's; schedules follow each other, so one does for all.
constexpr int kScheduleTag = 1 << 16;

at::Tensor as_tensor(const Message& message) {
  return at::from_blob(message.data, {message.bytes}, at::kByte);
}

/// Both sides know that there is nothing to send.
class NoMessage final : public GlooMessage {
  void wait(std::chrono::milliseconds) override {}
};

}  // namespace

GlooScheduleRun::GlooScheduleRun(std::shared_ptr<GlooGroup> group, Schedule schedule,
                                 const ScheduleTuning& tuning,
                                 std::shared_ptr<Completion> completion)
    : group_(std::move(group)),
      completion_(std::move(completion)),
      runner_(std::move(schedule), {.window_bytes = tuning.window_bytes}, *this) {}

void GlooScheduleRun::run_receives() {
  {
    const std::lock_guard lock(mutex_);
    runner_.start();
    changed_.notify_all();
  }
  run(receives_, std::ssize(runner_.schedule().receives), &ScheduleRunner::received);
}

void GlooScheduleRun::run_sends() {
  run(sends_, std::ssize(runner_.schedule().sends), &ScheduleRunner::sent);
}

/// Waits without the lock, so that the other side goes on; whoever's message has ended begins what
/// may begin on both sides.
void GlooScheduleRun::run(Flying& flying, int64_t count, void (ScheduleRunner::*ended)(int64_t)) {
  try {
    for (int64_t index = 0; index < count; ++index) {
      const auto message = oldest(flying);
      if (!message) return;
      message->wait(completion_->left());
      const std::lock_guard lock(mutex_);
      flying.pop_front();
      (runner_.*ended)(index);
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
    throw;
  }
}

/// Null where the other side has failed.
std::shared_ptr<GlooMessage> GlooScheduleRun::oldest(Flying& flying) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failed_ || !flying.empty(); });
  return failed_ ? nullptr : flying.front();
}

void GlooScheduleRun::send(const Message& message, int64_t) {
  if (message.bytes == 0) return sends_.push_back(std::make_shared<NoMessage>());
  sends_.push_back(group_->send(as_tensor(message), message.peer, kScheduleTag));
}

void GlooScheduleRun::receive(const Message& message, int64_t) {
  if (message.bytes == 0) return receives_.push_back(std::make_shared<NoMessage>());
  receives_.push_back(group_->receive(as_tensor(message), message.peer, kScheduleTag));
}

}  // namespace isobar
