// SPDX-License-Identifier: Apache-2.0
#include "comm/devices/staging.hpp"

#include <ATen/ops/empty.h>

#include <utility>

#include "comm/backend/naps.hpp"
#include "comm/backend/tensor_bytes.hpp"

namespace isobar {

Staging::Staging(std::shared_ptr<const StagingApi> api, int device)
    : api_(std::move(api)),
      device_(device),
      outward_(api_->make_priority_stream(device)),
      inward_(api_->make_priority_stream(device)),
      pool_(api_->allocate_host) {}

DeviceEvent Staging::now() const { return api_->record(device_, api_->current_stream(device_)); }

void Staging::order(const DeviceEvent& event) const {
  api_->block(device_, api_->current_stream(device_), event);
}

void Staging::wait(const DeviceEvent& event, const std::function<bool()>& given_up) const {
  for (NapsThatGrow naps; !api_->reached(event) && !given_up();) naps.nap();
}

HostCopy Staging::take(const at::Tensor& tensor) {
  const auto options = at::TensorOptions().dtype(tensor.scalar_type());
  const auto bytes = byte_count(tensor);
  if (bytes == 0) return {.values = at::empty(tensor.sizes(), options), .buffer = {}};
  HostCopy copy{.values = at::empty({0}, options), .buffer = pool_.take(bytes)};
  copy.values.set_(copy.buffer.storage(), 0, tensor.sizes(), tensor.strides());
  return copy;
}

void Staging::give_back(HostCopy copy) {
  if (!copy.buffer.defined()) return;
  copy.values = at::Tensor();
  pool_.give_back(std::move(copy.buffer));
}

DeviceEvent Staging::to_host(const HostCopy& to, const at::Tensor& from, const DeviceEvent& after) {
  api_->block(device_, outward_, after);
  if (to.buffer.defined()) api_->copy(device_, outward_, to.values, from);
  return api_->record(device_, outward_);
}

DeviceEvent Staging::to_device(const at::Tensor& to, const HostCopy& from,
                               const DeviceEvent& after) {
  api_->block(device_, inward_, after);
  if (from.buffer.defined()) api_->copy(device_, inward_, to, from.values);
  return api_->record(device_, inward_);
}

}  // namespace isobar
