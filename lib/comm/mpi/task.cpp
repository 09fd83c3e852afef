// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/task.hpp"

#include <utility>

#include "comm/mpi/requests.hpp"

namespace isobar {

MpiCalls::MpiCalls(Start start, Finish finish, const MpiLoad& load)
    : start_(std::move(start)), finish_(std::move(finish)), load_(load) {}

void MpiCalls::start(MpiRequests& requests) {
  std::vector<MPI_Request> made;
  start_(made);
  statuses_.resize(made.size());
  for (size_t i = 0; i < made.size(); ++i) {
    requests.add(*this, static_cast<int64_t>(i), made[i], load_);
  }
  finish_if_all();
}

void MpiCalls::advance(MpiRequests&, int64_t token, const MPI_Status& status) {
  statuses_[token] = status;
  ++complete_;
  finish_if_all();
}

void MpiCalls::finish_if_all() {
  if (complete_ < statuses_.size()) return;
  if (finish_) finish_(statuses_);
  finished_ = true;
}

}  // namespace isobar
