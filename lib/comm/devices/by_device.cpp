// SPDX-License-Identifier: Apache-2.0
#include "comm/devices/by_device.hpp"

#include <isobar/core/error.hpp>

#include <mutex>
#include <utility>

#include "comm/backend.hpp"

namespace isobar {
namespace {

/// The device side's latest message. NCCL's backend holds messages until anyone asks for
/// one, which must also happen where a rank waits for something on the CPU side: its
/// peer may be held up in the message.
class LastMessage {
 public:
  void set(Work work) {
    const std::lock_guard lock(mutex_);
    work_ = std::move(work);
  }

  void start() {
    const std::lock_guard lock(mutex_);
    if (work_.is_completed()) work_ = Work();
  }

 private:
  std::mutex mutex_;
  Work work_;
};

class CpuWork final : public WorkState {
 public:
  CpuWork(Work work, std::shared_ptr<LastMessage> message)
      : work_(std::move(work)), message_(std::move(message)) {}

  bool is_completed() const override {
    message_->start();
    return work_.is_completed();
  }

  void wait() override {
    message_->start();
    work_.wait();
  }

  void synchronize() override {
    message_->start();
    work_.synchronize();
  }

 private:
  Work work_;
  std::shared_ptr<LastMessage> message_;
};

class ByDeviceCommunicator final : public Communicator {
 public:
  ByDeviceCommunicator(std::unique_ptr<Communicator> cpu, std::unique_ptr<Communicator> device)
      : Communicator(cpu->rank(), cpu->size(), cpu->timeout(), BackendAccess::first_cause(*cpu)),
        cpu_(std::move(cpu)),
        device_(std::move(device)) {}

 private:
  Work do_start(Operation operation) override {
    const auto& tensor = operation.output.defined() ? operation.output : operation.input;
    if (!tensor.defined() || tensor.is_cpu()) {
      auto work = BackendAccess::forward(*cpu_, std::move(operation));
      return Work(std::make_shared<CpuWork>(std::move(work), last_message_));
    }
    const auto kind = operation.kind;
    auto work = BackendAccess::forward(*device_, std::move(operation));
    const bool message = kind == OperationKind::send || kind == OperationKind::receive;
    if (message) last_message_->set(work);
    return work;
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    last_message_->start();
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

  // The device side has the same cause, and leaves its waits by it.
  void do_abort(const std::string& reason) override { cpu_->abort(reason); }

  std::unique_ptr<Communicator> cpu_;
  std::unique_ptr<Communicator> device_;
  std::shared_ptr<LastMessage> last_message_ = std::make_shared<LastMessage>();
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
