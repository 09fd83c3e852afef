// SPDX-License-Identifier: Apache-2.0
#include "cuda/staged_communicator.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

namespace isobar::test {
namespace {

/// Copies the result back when it is waited for.
class StagedWork final : public WorkState {
 public:
  StagedWork(Work work, at::Tensor on_gpu, at::Tensor on_cpu)
      : work_(std::move(work)), on_gpu_(std::move(on_gpu)), on_cpu_(std::move(on_cpu)) {}

  bool is_completed() const override { return work_.is_completed(); }

  void wait() override {
    work_.wait();
    fetch();
  }

  void synchronize() override {
    work_.synchronize();
    fetch();
  }

 private:
  /// On the current stream, which wait() has ordered; the copy to the CPU blocks.
  void fetch() {
    if (!on_cpu_.defined()) return;
    const at::NoGradGuard no_grad;
    on_cpu_.detach().copy_(on_gpu_);
  }

  Work work_;
  at::Tensor on_gpu_;
  at::Tensor on_cpu_;
};

class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> inner, int device_index)
      : Communicator(inner->rank(), inner->size(), inner->timeout()),
        inner_(std::move(inner)),
        device_(at::kCUDA, static_cast<at::DeviceIndex>(device_index)) {}

 private:
  at::Tensor on_gpu(const at::Tensor& tensor) const {
    return tensor.defined() ? tensor.detach().to(device_) : tensor;
  }

  Work do_start(Operation operation) override {
    const auto input = on_gpu(operation.input);
    const auto output = on_gpu(operation.output);
    return Work(std::make_shared<StagedWork>(start(operation, input, output), output,
                                             std::move(operation.output)));
  }

  Work start(const Operation& o, const at::Tensor& input, const at::Tensor& output) {
    switch (o.kind) {
      case OperationKind::allreduce:
        return inner_->allreduce(output, o.reduce);
      case OperationKind::reduce_scatter:
        return inner_->reduce_scatter(output, input, o.reduce);
      case OperationKind::all_gather:
        return inner_->all_gather(output, input);
      case OperationKind::all_to_all:
        return inner_->all_to_all(output, input, o.output_rows, o.input_rows);
      case OperationKind::broadcast:
        return inner_->broadcast(output, o.peer);
      case OperationKind::send:
        return inner_->send(input, o.peer, o.tag);
      case OperationKind::receive:
        return inner_->receive(output, o.peer, o.tag);
      case OperationKind::barrier:
        break;
    }
    return inner_->barrier();
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    auto part = inner_->split(color, key);
    return part ? staged(std::move(part), device_.index()) : nullptr;
  }

  std::string_view do_backend() const noexcept override { return inner_->backend(); }

  std::unique_ptr<Communicator> inner_;
  at::Device device_;
};

}  // namespace

std::unique_ptr<Communicator> staged(std::unique_ptr<Communicator> inner, int device_index) {
  return std::make_unique<StagedCommunicator>(std::move(inner), device_index);
}

}  // namespace isobar::test
