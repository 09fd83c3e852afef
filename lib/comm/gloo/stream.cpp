// SPDX-License-Identifier: Apache-2.0
#include "comm/gloo/stream.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ops/from_blob.h>

#include <utility>

namespace isobar {
namespace {

/// Above every tag of the user's; streams follow each other, so one does for all.
constexpr int kStreamTag = 1 << 16;

at::Tensor bytes_of(const Message& message) {
  return at::from_blob(message.data, {message.bytes}, at::kByte);
}

/// Both sides know that there is nothing to send.
class NoMessage final : public GlooMessage {
  void wait(std::chrono::milliseconds) override {}
};

}  // namespace

GlooStream::GlooStream(std::shared_ptr<GlooGroup> group, Schedule schedule,
                       const ScheduleTuning& tuning, std::shared_ptr<Completion> completion,
                       Check check)
    : group_(std::move(group)),
      schedule_(std::move(schedule)),
      window_bytes_(tuning.window_bytes),
      completion_(std::move(completion)),
      check_(std::move(check)) {}

void GlooStream::run_receives() {
  {
    const std::lock_guard lock(mutex_);
    proceed();
    changed_.notify_all();
  }
  run(receives_, schedule_.receives);
}

void GlooStream::run_sends() { run(sends_, schedule_.sends); }

void GlooStream::run(Window& window, const std::vector<Message>& messages) {
  try {
    for (const auto& message : messages) {
      const auto flying = next(window);
      if (!flying) return;
      flying->wait(completion_->left());
      ended(window, message);
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
    throw;
  }
}

/// The oldest message in flight; null where the other side has failed.
std::shared_ptr<GlooMessage> GlooStream::next(Window& window) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failed_ || !window.flying.empty(); });
  return failed_ ? nullptr : window.flying.front();
}

void GlooStream::ended(Window& window, const Message& message) {
  const std::lock_guard lock(mutex_);
  window.flying.pop_front();
  window.bytes -= message.bytes;
  ++window.done;
  proceed();
  changed_.notify_all();
}

void GlooStream::proceed() {
  if (!is_checked_ && receives_.done >= check_.when_arrived) {
    is_checked_ = true;
    if (check_.run) check_.run();
  }
  combined_ = combine_arrived(schedule_, combined_, receives_.done);
  while (may_begin(receives_, schedule_.receives)) {
    begin(receives_, schedule_.receives[receives_.posted], false);
  }
  while (may_begin(sends_, schedule_.sends)) {
    begin(sends_, schedule_.sends[sends_.posted], true);
  }
}

bool GlooStream::may_begin(const Window& window, const std::vector<Message>& messages) const {
  if (window.posted == std::ssize(messages)) return false;
  const auto& next = messages[window.posted];
  const bool has_room = window.flying.empty() || window.bytes + next.bytes <= window_bytes_;
  return has_room && next.after_arrived <= receives_.done && next.after_sent <= sends_.done;
}

void GlooStream::begin(Window& window, const Message& message, bool sends) {
  std::shared_ptr<GlooMessage> flying;
  if (message.bytes == 0) {
    flying = std::make_shared<NoMessage>();
  } else if (sends) {
    flying = group_->send(bytes_of(message), message.peer, kStreamTag);
  } else {
    flying = group_->receive(bytes_of(message), message.peer, kStreamTag);
  }
  window.flying.push_back(std::move(flying));
  window.bytes += message.bytes;
  ++window.posted;
}

}  // namespace isobar
