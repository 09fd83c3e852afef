// SPDX-License-Identifier: Apache-2.0
#include "comm/devices/by_device.hpp"

#include <isobar/comm/device_order.hpp>
#include <isobar/core/error.hpp>

#include <utility>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/operation_facts.hpp"

namespace isobar {
namespace {

class ByDeviceCommunicator final : public Communicator {
 public:
  ByDeviceCommunicator(std::unique_ptr<Communicator> cpu, std::unique_ptr<Communicator> device)
      : Communicator(cpu->rank(), cpu->size(), cpu->timeout(), BackendAccess::first_cause(*cpu)),
        cpu_(std::move(cpu)),
        device_(std::move(device)) {}

 private:
  Work do_start(Operation operation) override {
    const auto& tensor = values_of(operation);
    auto& side = tensor.defined() && !tensor.is_cpu() ? *device_ : *cpu_;
    return BackendAccess::forward(side, std::move(operation));
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    std::unique_ptr<Communicator> parts[2];
    for (int side = 0; side < 2; ++side) {
      auto& whole = side == 0 ? *cpu_ : *device_;
      whole.set_timeout(timeout());
      parts[side] = whole.split(color, key);
      BackendAccess::catch_up(*this, whole);
    }
    if (color < 0) return nullptr;
    return make_by_device_communicator(std::move(parts[0]), std::move(parts[1]));
  }

  std::string_view do_backend() const noexcept override { return device_->backend(); }

  std::unique_ptr<DeviceOrder> do_device_order(const c10::Device& device) override {
    return DeviceOrder::of(device.is_cpu() ? *cpu_ : *device_, device);
  }

  // The device side has the same cause, and leaves its waits by it.
  void do_abort(const std::string& reason) override { cpu_->abort(reason); }

  std::unique_ptr<Communicator> cpu_;
  std::unique_ptr<Communicator> device_;
};

}  // namespace

std::unique_ptr<Communicator> make_by_device_communicator(std::unique_ptr<Communicator> cpu,
                                                          std::unique_ptr<Communicator> device) {
  ISOBAR_CHECK(cpu->rank() == device->rank() && cpu->size() == device->size(),
               "make_by_device_communicator: the CPU side is rank ", cpu->rank(), " of ",
               cpu->size(), ", the device side rank ", device->rank(), " of ", device->size());
  ISOBAR_CHECK(BackendAccess::first_cause(*cpu) == BackendAccess::first_cause(*device),
               "make_by_device_communicator: the two sides must fail by one first cause");
  return std::make_unique<ByDeviceCommunicator>(std::move(cpu), std::move(device));
}

}  // namespace isobar
