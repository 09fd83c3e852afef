// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/communicator_access.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "comm/backend/operation_facts.hpp"

namespace isobar {

void BackendAccess::set_watch(Communicator& comm, std::unique_ptr<Watch> watch) {
  comm.set_watch(std::move(watch));
}

Work BackendAccess::start(Communicator& comm, Operation operation) {
  comm.set_timeout(operation.timeout);
  return comm.start(std::move(operation));
}

Work BackendAccess::forward(Communicator& comm, Operation operation) {
  auto& count = is_message(operation) ? comm.messages_ : comm.collectives_;
  count = std::max(count, operation.sequence);
  return start(comm, std::move(operation));
}

void BackendAccess::catch_up(Communicator& comm, const Communicator& carrier) {
  while (comm.collectives_ < carrier.collectives_) {
    Operation exchange;
    exchange.sequence = comm.collectives_++;
    if (comm.watch_) comm.watch_->issued(exchange);
  }
}

const std::shared_ptr<FirstCause>& BackendAccess::first_cause(const Communicator& comm) {
  return comm.first_cause();
}

Work complete_alone(const Operation& operation) {
  // Elsewhere results are written as plain memory; here too gradients must not be recorded.
  const at::NoGradGuard no_grad;
  if (operation.input.defined() && operation.output.defined()) {
    auto output = operation.output.detach().view({-1});
    output.copy_(operation.input.detach().view({-1}), /*non_blocking=*/true);
  }
  if (operation.divisor != 1) operation.output.detach().div_(operation.divisor);
  return Work();
}

RankAndSize agree_on_split(Communicator& comm, int color, int key) {
  auto mine = at::empty({2}, at::kLong);
  mine.data_ptr<int64_t>()[0] = color;
  mine.data_ptr<int64_t>()[1] = key;
  auto all = at::empty({comm.size(), 2}, at::kLong);
  comm.all_gather(all, mine).synchronize();

  const auto* entry = all.const_data_ptr<int64_t>();
  RankAndSize part;
  for (int r = 0; r < comm.size(); ++r, entry += 2) {
    if (entry[0] != color) continue;
    ++part.size;
    if (std::pair(entry[1], int64_t{r}) < std::pair(int64_t{key}, int64_t{comm.rank()}))
      ++part.rank;
  }
  return part;
}

}  // namespace isobar
