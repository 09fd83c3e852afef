// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/work.hpp>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <string>

namespace isobar {

class Communicator;

/// The one order in which this process issues operations to a device, over all communicators (NCCL,
/// RCCL). It has to be the same on all ranks, so what is to start later takes its place now.
class DeviceOrder {
 public:
  /// That of `comm`'s operations on tensors of `device`; null where there is none: with threads,
  /// MPI, Gloo and shared memory each communicator has an order of its own. `comm` must outlive it.
  static std::unique_ptr<DeviceOrder> of(Communicator& comm, const c10::Device& device);

  virtual ~DeviceOrder() = default;

  /// Gives `task` the next place in the order. It runs at its turn on the thread that issues, with
  /// a stream of its own as the current one, behind what the caller's current stream holds now.
  /// What it calls of communicators of that device is issued at once, and Work::wait() orders its
  /// stream and blocks nobody. It must not wait for what comes later in the order. What it throws
  /// fails the world of `comm`, after which no task runs any more.
  ///
  /// Never blocks; throws like an operation of `comm`. wait() of the Work blocks until the task has
  /// run, and orders the current stream behind what it put on its own.
  [[nodiscard]] virtual Work push(const std::string& name, std::function<void()> task) = 0;

  /// Blocks until all tasks pushed here have run, and orders no stream. Throws like Work::wait().
  virtual void await_tasks() = 0;
};

}  // namespace isobar
