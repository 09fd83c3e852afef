// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/communicator.hpp>

#include <utility>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/first_cause.hpp"

namespace isobar {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  SelfCommunicator(std::chrono::milliseconds timeout, std::shared_ptr<FirstCause> cause)
      : Communicator(0, 1, timeout, std::move(cause)) {}

 private:
  Work do_start(Operation operation) override { return complete_alone(operation); }

  std::unique_ptr<Communicator> do_split(int color, int) override {
    if (color < 0) return nullptr;
    return std::make_unique<SelfCommunicator>(timeout(), first_cause());
  }

  std::string_view do_backend() const noexcept override { return "self"; }
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>(kDefaultTimeout,
                                            std::make_shared<FirstCause>(AfterFork::usable));
}

}  // namespace isobar
