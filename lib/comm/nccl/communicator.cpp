// SPDX-License-Identifier: Apache-2.0
// Callers only push and order their streams; the queue's two threads do the rest. The queue, and so
// the one order of issue, belongs to the device and outlives a communicator. An end goes through
// three stages, each within a limit: what was issued is put on the stream, the subscription to the
// cause ends, so that no abort can come from there, and then NCCL's communicator is ended in good
// order, or by abort where the world has failed.
#include "comm/nccl/communicator.hpp"

#include <isobar/comm/device_order.hpp>
#include <isobar/core/error.hpp>

#include <algorithm>
#include <utility>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/keeper.hpp"
#include "comm/backend/operation_facts.hpp"

namespace isobar {
namespace {

/// How long a destructor may take, twice: until what was issued is on its stream, and until NCCL
/// has ended.
constexpr std::chrono::seconds kGoodbye{5};

class NcclWork final : public WorkState {
 public:
  NcclWork(std::shared_ptr<NcclQueue> queue, NcclQueue::FlightPtr flight, bool orders_the_host)
      : queue_(std::move(queue)), flight_(std::move(flight)), orders_the_host_(orders_the_host) {}

  bool is_completed() const override { return queue_->is_completed(flight_); }

  void wait() override {
    if (orders_the_host_) return synchronize();
    queue_->wait_issued(flight_);
    const auto& api = *queue_->api();
    api.block(queue_->device(), api.current_stream(queue_->device()), flight_->done);
    queue_->check(flight_);
  }

  void synchronize() override { queue_->wait_done(flight_); }

 private:
  std::shared_ptr<NcclQueue> queue_;
  NcclQueue::FlightPtr flight_;
  bool orders_the_host_;
};

class NcclOrder final : public DeviceOrder {
 public:
  NcclOrder(const Communicator& comm, std::shared_ptr<NcclQueue> queue,
            std::shared_ptr<NcclLink> link)
      : comm_(comm), queue_(std::move(queue)), link_(std::move(link)) {}

  Work push(const std::string& name, std::function<void()> task) override {
    link_->cause().check();
    const auto full = detail::join(name, " on rank ", comm_.rank(), " of ", comm_.size());
    check_not_capturing(*queue_->api(), queue_->device(), full);
    last_ = queue_->push_task(link_, full, comm_.timeout(), std::move(task));
    return Work(std::make_shared<NcclWork>(queue_, last_, /*orders_the_host=*/false));
  }

  // One thread runs them in turn.
  void await_tasks() override {
    if (last_) queue_->wait_issued(last_);
  }

 private:
  const Communicator& comm_;
  std::shared_ptr<NcclQueue> queue_;
  std::shared_ptr<NcclLink> link_;
  NcclQueue::FlightPtr last_;
};

class NcclCommunicator final : public Communicator {
 public:
  /// `link` is null for a world of one.
  NcclCommunicator(const NcclOptions& options, std::shared_ptr<FirstCause> cause,
                   std::shared_ptr<NcclQueue> queue, std::shared_ptr<NcclLink> link)
      : Communicator(options.rank, options.size, options.timeout, std::move(cause)),
        options_(options),
        queue_(std::move(queue)),
        link_(std::move(link)) {
    if (!link_) return;
    // All communicators of a failed world at once: one's abort waits for the others' kernels
    // (nccl#564, nccl#1013).
    subscription_ = first_cause()->subscribe([link = link_] { link->abort(); });
  }

  ~NcclCommunicator() override {
    if (!link_) return;
    if (first_cause()->is_copy()) {
      keep_to_the_end(std::move(link_));
      keep_to_the_end(std::move(queue_));
      return;
    }
    if (!queue_->drain(*link_, kGoodbye)) link_->abort();
    first_cause()->unsubscribe(subscription_);
    link_->close(kGoodbye);
    queue_->detach();
  }

 private:
  Work do_start(Operation operation) override {
    if (size() == 1) return complete_alone(operation);
    check_device(operation);
    ISOBAR_CHECK(!is_message(operation), full_name(operation, rank(), size()), ": backend ",
                 backend(),
                 " carries collectives only; send a CPU tensor, or broadcast() in a group of two");
    check_not_capturing(*queue_->api(), queue_->device(), full_name(operation, rank(), size()));
    const bool barrier = operation.kind == OperationKind::barrier;
    auto flight = queue_->push(link_, std::move(operation));
    return Work(std::make_shared<NcclWork>(queue_, std::move(flight), barrier));
  }

  void check_device(const Operation& operation) const {
    const auto wanted = device_of_tensors();
    for (const auto* tensor : {&operation.input, &operation.output}) {
      ISOBAR_CHECK(!tensor->defined() || tensor->device() == wanted,
                   full_name(operation, rank(), size()), ": the tensor is on ", tensor->device(),
                   ", but this communicator takes tensors on ", wanted,
                   "; move it there or use a communicator for its device");
    }
  }

  at::Device device_of_tensors() const {
    const auto type = queue_->api()->device_type;
    if (type == at::kCPU) return type;
    return {type, static_cast<at::DeviceIndex>(options_.device_index)};
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    auto options = options_;
    options.timeout = timeout();
    if (size() == 1) {
      if (color < 0) return nullptr;
      return std::make_unique<NcclCommunicator>(options, first_cause(), queue_, nullptr);
    }
    // NCCL wants the parent at rest.
    barrier().synchronize();
    const auto where = detail::join("split on rank ", rank(), " of ", size());
    auto slot = link_->split(color, key, where, timeout());
    if (color < 0) return nullptr;
    read_rank_and_size(options, slot->comm);
    return adopt(options, std::move(slot));
  }

  void read_rank_and_size(NcclOptions& options, NcclComm comm) const {
    const auto status = queue_->api()->rank_and_size(comm, options.rank, options.size);
    if (status.result == NcclResult::error) first_cause()->fail("split: " + status.message);
  }

  std::unique_ptr<Communicator> adopt(const NcclOptions& options, std::shared_ptr<NcclSlot> slot);

  // A world of one issues nothing to a device.
  std::unique_ptr<DeviceOrder> do_device_order(const c10::Device& device) override {
    if (!link_ || device != device_of_tensors()) return nullptr;
    return std::make_unique<NcclOrder>(*this, queue_, link_);
  }

  std::string_view do_backend() const noexcept override { return queue_->api()->name; }

  NcclOptions options_;
  std::shared_ptr<NcclQueue> queue_;
  std::shared_ptr<NcclLink> link_;
  int subscription_ = 0;
};

NcclLinkOptions link_options(const NcclOptions& options) {
  return {.rank = options.rank,
          .size = options.size,
          .device = options.device_index,
          .deterministic = options.deterministic,
          .serialise = options.serialise,
          .few_ranks = options.few_ranks};
}

std::unique_ptr<Communicator> make(const NcclOptions& options, std::shared_ptr<NcclSlot> slot,
                                   std::shared_ptr<FirstCause> cause,
                                   std::shared_ptr<NcclQueue> queue) {
  auto link =
      std::make_shared<NcclLink>(queue->api(), std::move(slot), link_options(options), cause);
  ISOBAR_CHECK(queue->attach(), "make_nccl_communicator: this queue has ended; make another");
  return std::make_unique<NcclCommunicator>(options, std::move(cause), std::move(queue),
                                            std::move(link));
}

std::unique_ptr<Communicator> NcclCommunicator::adopt(const NcclOptions& options,
                                                      std::shared_ptr<NcclSlot> slot) {
  if (options.size > 1) return make(options, std::move(slot), first_cause(), queue_);
  // One rank sends nothing; NCCL's part of it is not needed.
  std::make_shared<NcclLink>(queue_->api(), std::move(slot), link_options(options), first_cause())
      ->close(kGoodbye);
  return std::make_unique<NcclCommunicator>(options, first_cause(), queue_, nullptr);
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(const NcclOptions& options,
                                                     std::shared_ptr<FirstCause> cause,
                                                     std::shared_ptr<NcclQueue> queue) {
  ISOBAR_CHECK(options.size > 0 && options.rank >= 0 && options.rank < options.size,
               "make_nccl_communicator: no rank ", options.rank, " of ", options.size);
  ISOBAR_CHECK(options.timeout.count() > 0,
               "make_nccl_communicator: the time limit must be positive, got ",
               options.timeout.count(), " ms");
  if (options.size == 1) {
    return std::make_unique<NcclCommunicator>(options, std::move(cause), std::move(queue), nullptr);
  }
  const auto where =
      detail::join("make_nccl_communicator on rank ", options.rank, " of ", options.size);
  auto slot = NcclLink::connect(queue->api(), link_options(options), options.unique_id, *cause,
                                where, options.timeout);
  return make(options, std::move(slot), std::move(cause), std::move(queue));
}

}  // namespace isobar
