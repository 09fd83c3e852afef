// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/stream.hpp"

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

bool MpiStream::Window::has_room_for(const Message& message, int64_t window_bytes) const {
  const auto count = posted - done;
  return count == 0 || (count < kMostInFlight && bytes + message.bytes <= window_bytes);
}

void MpiStream::Window::begin(const Message& message) {
  ++posted;
  bytes += message.bytes;
  complete.push_back(false);
}

void MpiStream::Window::end(int64_t index, const Message& message) {
  bytes -= message.bytes;
  complete[index - done] = true;
  for (; !complete.empty() && complete.front(); ++done) complete.pop_front();
}

MpiStream::MpiStream(MpiPlace place, Channel channel, MakeSchedule make)
    : place_(std::move(place)), channel_(std::move(channel)), make_(make) {}

bool MpiStream::may_start() const {
  return channel_.lane->bytes_waiting <= channel_.tuning.window_bytes;
}

void MpiStream::start(MpiRequests& requests) {
  schedule_ = make_(place_.operation, place_.rank, place_.size, channel_.tuning);
  channel_.lane->bytes_waiting += total_bytes(schedule_.sends) + total_bytes(schedule_.receives);
  proceed(requests);
}

void MpiStream::advance(MpiRequests& requests, int64_t token, const MPI_Status& status) {
  const auto index = token / 2;
  if (token == receive_token(index)) {
    const auto& message = schedule_.receives[index];
    check_length(message, status);
    receives_.end(index, message);
  } else {
    sends_.end(index, schedule_.sends[index]);
  }
  proceed(requests);
}

bool MpiStream::finished() const {
  return sends_.done == std::ssize(schedule_.sends) &&
         receives_.done == std::ssize(schedule_.receives);
}

/// A message that is too long is MPI's error; one that is too short is not.
void MpiStream::check_length(const Message& message, const MPI_Status& status) const {
  int bytes = 0;
  mpi_check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  if (bytes == message.bytes) return;
  throw CommError(detail::join("rank ", message.peer, " sent ", bytes, " bytes where ",
                               message.bytes, " were due (", place_.operation.signature(),
                               "); the ranks have issued different operations or sizes"));
}

void MpiStream::proceed(MpiRequests& requests) {
  combined_ = combine_arrived(schedule_, combined_, receives_.done);
  while (may_begin(receives_, schedule_.receives)) post_receive(requests);
  while (may_begin(sends_, schedule_.sends)) post_send(requests);
}

bool MpiStream::may_begin(const Window& window, const std::vector<Message>& messages) const {
  if (window.posted == std::ssize(messages)) return false;
  const auto& next = messages[window.posted];
  return next.after_arrived <= receives_.done && next.after_sent <= sends_.done &&
         window.has_room_for(next, channel_.tuning.window_bytes);
}

void MpiStream::post_receive(MpiRequests& requests) {
  const auto& message = schedule_.receives[receives_.posted];
  MPI_Request request = MPI_REQUEST_NULL;
  mpi_check(MPI_Irecv(message.data, static_cast<int>(message.bytes), MPI_BYTE, message.peer,
                      channel_.tag, *channel_.comm, &request),
            "MPI_Irecv");
  requests.add(*this, receive_token(receives_.posted), request, {message.bytes, channel_.one_node});
  channel_.lane->bytes_waiting -= message.bytes;
  receives_.begin(message);
}

void MpiStream::post_send(MpiRequests& requests) {
  const auto& message = schedule_.sends[sends_.posted];
  MPI_Request request = MPI_REQUEST_NULL;
  mpi_check(MPI_Isend(message.data, static_cast<int>(message.bytes), MPI_BYTE, message.peer,
                      channel_.tag, *channel_.comm, &request),
            "MPI_Isend");
  requests.add(*this, send_token(sends_.posted), request, {message.bytes, channel_.one_node});
  channel_.lane->bytes_waiting -= message.bytes;
  sends_.begin(message);
}

}  // namespace isobar
