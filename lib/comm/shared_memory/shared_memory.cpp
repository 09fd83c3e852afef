// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/shared_memory.hpp"

#include <isobar/core/error.hpp>

#include <unistd.h>

#include <atomic>
#include <exception>
#include <thread>
#include <utility>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/keeper.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/shared_memory/member.hpp"

namespace isobar {
namespace {

bool each_has_a_core(int size) {
  return std::cmp_greater(std::thread::hardware_concurrency(), size);
}

class SharedMemoryCommunicator final : public Communicator {
 public:
  /// No segment for a rank that is alone.
  SharedMemoryCommunicator(const SharedMemoryOptions& options,
                           std::shared_ptr<SharedSegment> segment, bool own_cores)
      : Communicator(options.rank, options.size, options.timeout, options.cause),
        name_(options.name),
        own_cores_(own_cores) {
    if (!segment) return;
    member_ = std::make_unique<SharedMember>(std::move(segment), rank(), first_cause(), own_cores);
  }

  ~SharedMemoryCommunicator() override {
    const bool unwinding = std::uncaught_exceptions() > 0;
    if (!member_) return;
    if (first_cause()->is_copy()) {
      keep_to_the_end(std::move(member_));
      return;
    }
    SharedMember::retire(std::move(member_),
                         unwinding ? Presence::left_by_exception : Presence::left);
  }

  static std::unique_ptr<Communicator> make(SharedMemoryOptions options, bool own_cores) {
    if (!options.cause) options.cause = std::make_shared<FirstCause>();
    std::shared_ptr<SharedSegment> segment;
    if (options.size > 1) {
      segment = SharedSegment::attach({options.name, options.rank, options.size}, options.timeout,
                                      *options.cause);
    }
    return std::make_unique<SharedMemoryCommunicator>(options, std::move(segment), own_cores);
  }

 private:
  Work do_start(Operation operation) override {
    if (size() == 1) return complete_alone(operation);
    check_on_cpu(operation, backend());
    return member_->start(std::move(operation));
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    const auto part = agree_on_split(*this, color, key);
    const auto name = detail::join(name_, ".", splits_++, ".", color);
    if (color < 0) return nullptr;
    return make({name, part.rank, part.size, timeout(), first_cause()}, own_cores_);
  }

  std::string_view do_backend() const noexcept override { return "shm"; }

  std::string name_;
  bool own_cores_;
  std::unique_ptr<SharedMember> member_;
  int64_t splits_ = 0;
};

void check(const SharedMemoryOptions& options) {
  constexpr auto kWhere = "make_shared_memory_communicator: ";
  ISOBAR_CHECK(options.size > 0 && options.rank >= 0 && options.rank < options.size, kWhere,
               "no rank ", options.rank, " of ", options.size);
  ISOBAR_CHECK(!options.name.empty() && options.name.find('/') == std::string::npos, kWhere,
               "the name must not be empty nor hold a slash, got '", options.name, "'");
  ISOBAR_CHECK(options.timeout.count() > 0, kWhere, "the time limit must be positive, got ",
               options.timeout.count(), " ms");
}

}  // namespace

std::unique_ptr<Communicator> make_shared_memory_communicator(const SharedMemoryOptions& options) {
  check(options);
  return SharedMemoryCommunicator::make(options, each_has_a_core(options.size));
}

std::vector<std::unique_ptr<Communicator>> make_shared_memory_threads(
    int size, std::chrono::milliseconds timeout) {
  static std::atomic<int> worlds{0};
  const auto name = detail::join("isobar-threads-", getpid(), "-", worlds++);
  const auto segment = size > 1 ? SharedSegment::anonymous(size) : nullptr;
  std::vector<std::unique_ptr<Communicator>> world;
  for (int r = 0; r < size; ++r) {
    world.push_back(std::make_unique<SharedMemoryCommunicator>(
        SharedMemoryOptions{name, r, size, timeout, nullptr}, segment, each_has_a_core(size)));
  }
  return world;
}

}  // namespace isobar
