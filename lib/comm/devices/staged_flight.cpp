// SPDX-License-Identifier: Apache-2.0
#include "comm/devices/staged_flight.hpp"

#include <exception>
#include <utility>

#include "comm/backend/communicator_access.hpp"

namespace isobar {

StagedFlight::StagedFlight(Operation operation, std::shared_ptr<Staging> staging,
                           DeviceEvent inputs, std::shared_ptr<Completion> completion)
    : operation_(std::move(operation)),
      staging_(std::move(staging)),
      inputs_(std::move(inputs)),
      completion_(std::move(completion)) {}

void StagedFlight::depart(Communicator& inner) {
  auto on_host = operation_;
  is_root_ = operation_.kind == OperationKind::broadcast && operation_.peer == inner.rank();
  if (on_device()) {
    stage(on_host.input, input_);
    stage(on_host.output, output_);
  } else {
    operation_ = Operation();  // the inner communicator holds the tensors
  }
  on_host_ = BackendAccess::forward(inner, std::move(on_host));
  departed_ = true;
}

void StagedFlight::stage(at::Tensor& tensor, HostCopy& copy) {
  if (!tensor.defined()) return;
  copy = staging_->take(tensor);
  if (takes_along(tensor)) {
    outward_ = staging_->to_host(copy, tensor, inputs_);
    staging_->wait(outward_, [this] {
      completion_->check();
      return false;
    });
    outward_.reset();
  }
  tensor = copy.values;
}

/// What other ranks or this one's own result need of it.
bool StagedFlight::takes_along(const at::Tensor& tensor) const {
  return tensor.is_same(operation_.input) || operation_.kind == OperationKind::allreduce ||
         is_root_;
}

bool StagedFlight::brings_back() const {
  return on_device() && operation_.output.defined() && !is_root_;
}

void StagedFlight::settle() noexcept {
  try {
    for (const auto& event : {outward_, done()}) {
      if (event) staging_->wait(event, [] { return false; });
    }
  } catch (const std::exception&) {
    // The device itself has failed: it copies nothing any more.
  }
}

void StagedFlight::arrive() {
  const std::lock_guard lock(mutex_);
  if (arrived_) return;
  on_host_.wait();
  if (brings_back()) done_ = staging_->to_device(operation_.output, output_, inputs_);
  arrived_ = true;
}

void StagedFlight::unload() {
  // To the end even where the world has failed: the device writes to the tensor.
  if (const auto end = done()) staging_->wait(end, [] { return false; });
  staging_->give_back(std::move(input_));
  staging_->give_back(std::move(output_));
  operation_ = Operation();
}

DeviceEvent StagedFlight::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

}  // namespace isobar
