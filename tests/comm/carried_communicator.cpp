// SPDX-License-Identifier: Apache-2.0
#include "comm/carried_communicator.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

namespace isobar::test {
namespace {

/// Brings the result back when it is waited for.
class CarriedWork final : public WorkState {
 public:
  CarriedWork(Work work, std::function<void()> back)
      : work_(std::move(work)), back_(std::move(back)) {}

  bool is_completed() const override { return work_.is_completed(); }

  void wait() override {
    work_.wait();
    back_();
  }

  void synchronize() override {
    work_.synchronize();
    back_();
  }

 private:
  Work work_;
  std::function<void()> back_;
};

class CarriedCommunicator final : public Communicator {
 public:
  CarriedCommunicator(std::unique_ptr<Communicator> inner, Carrier carrier, int every)
      : Communicator(inner->rank(), inner->size(), inner->timeout()),
        inner_(std::move(inner)),
        carrier_(std::move(carrier)),
        every_(every) {}

 private:
  Work do_start(Operation operation) override {
    const bool message =
        operation.kind == OperationKind::send || operation.kind == OperationKind::receive;
    const bool every_nth = message || collectives_++ % every_ == 0;
    if (!every_nth || size() < carrier_.fewest_ranks) {
      return start(operation, operation.input, operation.output);
    }
    const auto there = [this](const at::Tensor& tensor) {
      return tensor.defined() ? carrier_.there(tensor.detach()) : tensor;
    };
    const auto output = there(operation.output);
    auto work = start(operation, there(operation.input), output);
    return Work(std::make_shared<CarriedWork>(
        std::move(work), [back = carrier_.back, host = operation.output, output] {
          if (host.defined()) back(host.detach(), output);
        }));
  }

  Work start(const Operation& o, const at::Tensor& input, const at::Tensor& output) {
    switch (o.kind) {
      case OperationKind::allreduce:
        return inner_->allreduce(output, {.op = o.reduce, .divisor = o.divisor});
      case OperationKind::reduce_scatter:
        return inner_->reduce_scatter(output, input, {.op = o.reduce, .divisor = o.divisor});
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
    return part ? carried(std::move(part), carrier_, every_) : nullptr;
  }

  std::string_view do_backend() const noexcept override { return inner_->backend(); }

  std::unique_ptr<Communicator> inner_;
  Carrier carrier_;
  int every_;
  int collectives_ = 0;
};

}  // namespace

Carrier gpu_carrier(int device_index) {
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(device_index));
  const auto back = [](const at::Tensor& host, const at::Tensor& on_device) {
    const at::NoGradGuard no_grad;
    host.copy_(on_device);  // on the current stream; blocks
  };
  return {.there = [device](const at::Tensor& host) { return host.to(device); }, .back = back};
}

std::unique_ptr<Communicator> carried(std::unique_ptr<Communicator> inner, Carrier carrier,
                                      int every) {
  return std::make_unique<CarriedCommunicator>(std::move(inner), std::move(carrier), every);
}

}  // namespace isobar::test
