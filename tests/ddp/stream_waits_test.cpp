// SPDX-License-Identifier: Apache-2.0
#include "ddp/stream_waits.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace isobar::stream_waits_test {
namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::EventFlag;
using c10::Stream;

/// A device of one stream, whose clock a test sets: what is put on the stream at a time is passed
/// then, and known once the host has come to that time.
struct Clock final : c10::impl::DeviceGuardImplInterface {
  struct Event {
    double ms = 0;
  };

  double stream_ms = 0;  ///< up to where the stream is full
  double now_ms = 0;     ///< of the device
  mutable int events = 0;

  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  Device exchangeDevice(Device device) const override { return device; }
  Device getDevice() const override { return {type(), 0}; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device device) const override { return Stream(Stream::DEFAULT, device); }
  Stream exchangeStream(Stream stream) const override { return stream; }
  // Autograd starts threads for as many.
  DeviceIndex deviceCount() const noexcept override { return 0; }

  void record(void** event, const Stream&, const DeviceIndex, const EventFlag) const override {
    if (!*event) {
      *event = new Event;
      ++events;
    }
    static_cast<Event*>(*event)->ms = stream_ms;
  }
  bool queryEvent(void* event) const override { return static_cast<Event*>(event)->ms <= now_ms; }
  double elapsedTime(void* begin, void* end, const DeviceIndex) const override {
    return static_cast<Event*>(end)->ms - static_cast<Event*>(begin)->ms;
  }
  void destroyEvent(void* event, const DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
    --events;
  }
};

/// LibTorch keeps its address for ever.
Clock& clock() {
  static auto* const made = new Clock;
  static const c10::impl::DeviceGuardImplRegistrar registered(c10::kPrivateUse1, made);
  return *made;
}

class StreamWaitsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto& device = clock();
    device.stream_ms = device.now_ms = 0;
  }
  static void wait_for(StreamWaits& waits, double ms) {
    waits.measure([&] { clock().stream_ms += ms; });
  }

  StreamWaits waits_{Device(c10::kPrivateUse1, 0)};
};

TEST_F(StreamWaitsTest, CountWhatTheDeviceHasPassed) {
  wait_for(waits_, 250);
  clock().stream_ms += 1000;  // it computes
  wait_for(waits_, 500);
  EXPECT_EQ(waits_.seconds(), 0);
  clock().now_ms = 1200;
  EXPECT_EQ(waits_.seconds(), 0.25);
  clock().now_ms = 1749;
  EXPECT_EQ(waits_.seconds(), 0.25);
  clock().now_ms = 1750;
  EXPECT_EQ(waits_.seconds(), 0.75);
  EXPECT_EQ(waits_.seconds(), 0.75);
}

TEST_F(StreamWaitsTest, UseEventsAgain) {
  for (int step = 0; step < 10; ++step) {
    for (int bucket = 0; bucket < 3; ++bucket) wait_for(waits_, 1);
    clock().now_ms = clock().stream_ms;
  }
  EXPECT_NEAR(waits_.seconds(), 0.03, 1e-12);
  EXPECT_EQ(clock().events, 6);
}

TEST_F(StreamWaitsTest, LeaveOutAWaitThatFailed) {
  EXPECT_THROW(waits_.measure([] { throw std::runtime_error("the world has failed"); }),
               std::runtime_error);
  wait_for(waits_, 8);
  clock().now_ms = 8;
  EXPECT_NEAR(waits_.seconds(), 0.008, 1e-12);
}

}  // namespace
}  // namespace isobar::stream_waits_test
