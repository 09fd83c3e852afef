// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/communicator.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>

#include <utility>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/completion.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/mpi/call.hpp"
#include "comm/mpi/handle.hpp"
#include "comm/mpi/make_task.hpp"
#include "comm/mpi/runtime.hpp"

namespace isobar {
namespace {

/// Inside a node messages are copied by the ranks themselves, at a rate that makes each of them
/// dear.
ScheduleTuning suitable_tuning(bool one_node) {
  if (!one_node) return {};
  ScheduleTuning tuning;
  tuning.shortest_segment_bytes = 256 << 10;
  tuning.segment_bytes = 1 << 20;
  tuning.window_bytes = 4 << 20;
  return tuning;
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MpiRuntime& runtime, const MpiHandle& handle, std::shared_ptr<MpiFamily> family,
                  const MpiOptions& options)
      : Communicator(handle.rank, handle.size, options.timeout, family->cause()),
        runtime_(runtime),
        family_(std::move(family)),
        options_(options),
        link_{runtime.own(handle.comm, family_), handle.one_node, options.deterministic,
              options.tuning.value_or(suitable_tuning(handle.one_node))} {
    runtime_.attach();
  }

  ~MpiCommunicator() override {
    if (first_cause()->is_copy()) return;
    link_.comm.reset();
    runtime_.detach();
  }

 private:
  Work do_start(Operation operation) override {
    if (size() == 1) return complete_alone(operation);
    check_on_cpu(operation, backend());
    runtime_.check_not_finalised(operation, rank(), size());
    auto completion = std::make_shared<Completion>(operation, rank(), size(), first_cause());
    return runtime_.launch(make_task(std::move(operation), rank(), size(), link_),
                           std::move(completion), family_);
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    agree_on_split(*this, color, key);
    const auto handle = split_handle(runtime_, link_.comm, color, key, family_, timeout());
    if (handle.comm == MPI_COMM_NULL) return nullptr;
    auto options = options_;
    options.timeout = timeout();
    return std::make_unique<MpiCommunicator>(runtime_, handle, family_, options);
  }

  std::string_view do_backend() const noexcept override { return "mpi"; }

  MpiRuntime& runtime_;
  std::shared_ptr<MpiFamily> family_;
  MpiOptions options_;
  MpiLink link_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const MpiOptions& options) {
  ISOBAR_CHECK(options.timeout.count() > 0,
               "make_mpi_communicator: the time limit must be positive, got ",
               options.timeout.count(), " ms");
  auto& runtime = MpiRuntime::get(options.timeout);
  const auto cause = options.cause ? options.cause : std::make_shared<FirstCause>();
  const auto family = std::make_shared<MpiFamily>(runtime, cause);
  const auto handle = duplicate_world(runtime, family, options.timeout);
  return std::make_unique<MpiCommunicator>(runtime, handle, family, options);
}

std::unique_ptr<Communicator> make_mpi_communicator(std::chrono::milliseconds timeout) {
  MpiOptions options;
  options.timeout = timeout;
  return make_mpi_communicator(options);
}

std::vector<std::string> mpi_gather(const std::string& text, std::chrono::milliseconds timeout) {
  return gather_texts(*make_mpi_communicator(timeout), text);
}

}  // namespace isobar
