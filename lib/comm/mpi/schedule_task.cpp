// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/schedule_task.hpp"

#include <isobar/core/error.hpp>

#include <utility>

#include "comm/mpi/call.hpp"
#include "comm/mpi/requests.hpp"

namespace isobar {
namespace {

/// Every request is looked at in each test, so small messages do not fill a window by themselves.
constexpr int64_t kMostInFlight = 64;

int64_t total_bytes(const std::vector<Message>& messages) {
  int64_t total = 0;
  for (const auto& message : messages) total += message.bytes;
  return total;
}

/// Tokens tell the direction and the number of a message.
int64_t receive_token(int64_t index) { return 2 * index; }
int64_t send_token(int64_t index) { return 2 * index + 1; }

}  // namespace

MpiScheduleTask::MpiScheduleTask(Operation operation, int rank, int size, Channel channel,
                                 MakeSchedule make)
    : operation_(std::move(operation)),
      rank_(rank),
      size_(size),
      channel_(std::move(channel)),
      make_(make) {}

bool MpiScheduleTask::may_start() const {
  return channel_.lane->bytes_waiting <= channel_.tuning.window_bytes;
}

void MpiScheduleTask::start(MpiRequests& requests) {
  requests_ = &requests;
  const ScheduleRunner::Limits limits{.window_bytes = channel_.tuning.window_bytes,
                                      .messages = kMostInFlight};
  runner_.emplace(make_(operation_, rank_, size_, channel_.tuning), limits,
                  static_cast<MessageTransport&>(*this));
  const auto& schedule = runner_->schedule();
  channel_.lane->bytes_waiting += total_bytes(schedule.sends) + total_bytes(schedule.receives);
  runner_->start();
}

void MpiScheduleTask::advance(MpiRequests&, int64_t token, const MPI_Status& status) {
  const auto index = token / 2;
  if (token == send_token(index)) return runner_->sent(index);
  check_length(runner_->schedule().receives[index], status);
  runner_->received(index);
}

bool MpiScheduleTask::finished() const { return runner_->finished(); }

/// A message that is too long is MPI's error; one that is too short is not.
void MpiScheduleTask::check_length(const Message& message, const MPI_Status& status) const {
  int bytes = 0;
  mpi_check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  if (bytes == message.bytes) return;
  throw CommError(detail::join("rank ", message.peer, " sent ", bytes, " bytes where ",
                               message.bytes, " were due (", operation_.signature(),
                               "); the ranks have issued different operations or sizes"));
}

void MpiScheduleTask::receive(const Message& message, int64_t index) {
  MPI_Request request = MPI_REQUEST_NULL;
  mpi_check(MPI_Irecv(message.data, static_cast<int>(message.bytes), MPI_BYTE, message.peer,
                      channel_.tag, *channel_.comm, &request),
            "MPI_Irecv");
  requests_->add(*this, receive_token(index), request, {message.bytes, channel_.one_node});
  channel_.lane->bytes_waiting -= message.bytes;
}

void MpiScheduleTask::send(const Message& message, int64_t index) {
  MPI_Request request = MPI_REQUEST_NULL;
  mpi_check(MPI_Isend(message.data, static_cast<int>(message.bytes), MPI_BYTE, message.peer,
                      channel_.tag, *channel_.comm, &request),
            "MPI_Isend");
  requests_->add(*this, send_token(index), request, {message.bytes, channel_.one_node});
  channel_.lane->bytes_waiting -= message.bytes;
}

}  // namespace isobar
