// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/requests.hpp"

#include <algorithm>
#include <functional>

#include "comm/mpi/call.hpp"

namespace isobar {

void MpiRequests::add(MpiTask& task, int64_t token, MPI_Request request, MpiLoad load) {
  requests_.push_back(request);
  owners_.push_back({&task, token, load});
  load_ += load;
}

const std::vector<MpiRequests::Ended>& MpiRequests::test() {
  ended_.clear();
  indices_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int count = 0;
  const int result = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                  indices_.data(), statuses_.data());
  if (result != MPI_ERR_IN_STATUS) mpi_check(result, "MPI_Testsome");
  if (count == MPI_UNDEFINED) return ended_;
  for (int i = 0; i < count; ++i) {
    const auto& owner = owners_[indices_[i]];
    const int error = result == MPI_ERR_IN_STATUS ? statuses_[i].MPI_ERROR : MPI_SUCCESS;
    ended_.push_back({owner.task, owner.token, statuses_[i], error});
  }
  // From the back, so that what takes a place has been looked at.
  std::sort(indices_.begin(), indices_.begin() + count, std::greater<>());
  std::for_each(indices_.begin(), indices_.begin() + count, [&](int index) { remove(index); });
  return ended_;
}

void MpiRequests::remove(int index) {
  load_ -= owners_[index].load;
  requests_[index] = requests_.back();
  owners_[index] = owners_.back();
  requests_.pop_back();
  owners_.pop_back();
}

void MpiRequests::forget(const MpiTask& task) {
  for (int i = static_cast<int>(owners_.size()) - 1; i >= 0; --i) {
    if (owners_[i].task == &task) remove(i);
  }
}

}  // namespace isobar
