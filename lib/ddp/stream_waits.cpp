// SPDX-License-Identifier: Apache-2.0
#include "ddp/stream_waits.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <exception>
#include <utility>

namespace isobar {

StreamWaits::StreamWaits(const c10::Device& device) : device_(device) {}

void StreamWaits::measure(const std::function<void()>& wait) {
  const auto stream = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
  auto events = take();
  events.begin.record(stream);
  wait();
  events.end.record(stream);
  under_way_.push_back(std::move(events));
}

double StreamWaits::seconds() noexcept {
  try {
    collect();
  } catch (const std::exception&) {  // the device's, which whoever waits for it hears of
    under_way_.clear();
  }
  return seconds_;
}

StreamWaits::Wait StreamWaits::take() {
  collect();
  if (spare_.empty()) {
    constexpr auto kTimed = c10::EventFlag::BACKEND_DEFAULT;
    return {c10::Event(device_.type(), kTimed), c10::Event(device_.type(), kTimed)};
  }
  auto events = std::move(spare_.back());
  spare_.pop_back();
  return events;
}

void StreamWaits::collect() {
  while (!under_way_.empty() && under_way_.front().end.query()) {
    auto& passed = under_way_.front();
    seconds_ += 1e-3 * passed.begin.elapsedTime(passed.end);
    spare_.push_back(std::move(passed));
    under_way_.pop_front();
  }
}

}  // namespace isobar
