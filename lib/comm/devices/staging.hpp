// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "comm/devices/api.hpp"
#include "comm/devices/host_pool.hpp"

namespace isobar {

/// A tensor's values in host memory.
struct HostCopy {
  /// Of the tensor's type and shape.
  at::Tensor values;
  /// What they lie in; undefined where there are none.
  at::Tensor buffer;
};

/// How the staged communicators of a world reach one device: a stream for each direction,
/// so that no copy waits for one the other way, and the host memory between.
class Staging {
 public:
  Staging(std::shared_ptr<const StagingApi> api, int device);

  at::DeviceType device_type() const noexcept { return api_->device_type; }
  int device() const noexcept { return device_; }

  /// For a thread that copies.
  void use_device() const { api_->use_device(device_); }

  /// check_not_capturing() of the caller's current stream.
  void check_capture(const std::string& operation) const {
    check_not_capturing(*api_, device_, operation);
  }

  /// Where the caller's current stream is now.
  DeviceEvent now() const;

  /// The caller's current stream goes on after `event`.
  void order(const DeviceEvent& event) const;

  bool reached(const DeviceEvent& event) const { return api_->reached(event); }

  /// Blocks until `event` has been reached, or `given_up` says so.
  void wait(const DeviceEvent& event, const std::function<bool()>& given_up) const;

  /// Host memory for a tensor like `tensor`.
  HostCopy take(const at::Tensor& tensor);

  /// For memory that neither the device nor a transport uses any more.
  void give_back(HostCopy copy);

  /// Starts a copy that comes `after`; gives the point behind it.
  DeviceEvent to_host(const HostCopy& to, const at::Tensor& from, const DeviceEvent& after);
  DeviceEvent to_device(const at::Tensor& to, const HostCopy& from, const DeviceEvent& after);

 private:
  std::shared_ptr<const StagingApi> api_;
  int device_;
  DeviceStream outward_;
  DeviceStream inward_;
  HostPool pool_;
};

}  // namespace isobar
