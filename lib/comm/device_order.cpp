// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/communicator.hpp>
#include <isobar/comm/device_order.hpp>

namespace isobar {

std::unique_ptr<DeviceOrder> DeviceOrder::of(Communicator& comm, const c10::Device& device) {
  return comm.do_device_order(device);
}

std::unique_ptr<DeviceOrder> Communicator::do_device_order(const c10::Device&) { return nullptr; }

}  // namespace isobar
