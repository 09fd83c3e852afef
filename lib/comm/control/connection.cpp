// SPDX-License-Identifier: Apache-2.0
#include "comm/control/connection.hpp"

#include <sys/socket.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <thread>
#include <utility>

namespace isobar::control {
namespace {

constexpr size_t kOutputBytes = 2 * kMessageBytes;
/// Others must get their turn beside one that sends without end.
constexpr int kReadsAtOnce = 64;
constexpr Milliseconds kFlushLimit{1000};
constexpr Milliseconds kCloseLimit{200};

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

template <typename Done>
void repeat_until(Milliseconds limit, const Done& done) {
  const auto deadline = Clock::now() + limit;
  for (auto nap = std::chrono::microseconds(50); !done() && Clock::now() < deadline;) {
    std::this_thread::sleep_for(nap);
    nap = std::min(2 * nap, std::chrono::microseconds(5000));
  }
}

}  // namespace

Connection::Connection(Socket socket, Hears hears) : socket_(std::move(socket)), reader_(hears) {}

void Connection::send_frame(const std::string& frame) {
  if (!is_open()) return;
  if (output_.size() - sent_ + frame.size() > kOutputBytes) return close();
  output_.erase(0, std::exchange(sent_, 0));
  output_ += frame;
  flush();
}

void Connection::flush() {
  while (is_open() && has_output()) {
    const auto count =
        ::send(socket_.fd(), output_.data() + sent_, output_.size() - sent_, MSG_NOSIGNAL);
    if (count >= 0) {
      sent_ += static_cast<size_t>(count);
      continue;
    }
    // A broken connection is closed by receive(), which first takes what came before the break.
    if (!would_block()) sent_ = output_.size();
    return;
  }
}

std::vector<ControlMessage> Connection::receive() {
  std::vector<ControlMessage> messages;
  std::array<char, 16384> buffer;
  for (int i = 0; i < kReadsAtOnce && is_open(); ++i) {
    const auto count = recv(socket_.fd(), buffer.data(), buffer.size(), 0);
    if (count < 0 && would_block()) break;
    if (count <= 0) {
      close();
      break;
    }
    reader_.append(std::string_view(buffer.data(), static_cast<size_t>(count)));
    while (auto message = reader_.next()) messages.push_back(std::move(*message));
    if (reader_.is_broken()) close();
    if (count < std::ssize(buffer)) break;  // what comes from now on is told anew
  }
  return messages;
}

void Connection::finish() {
  if (is_open()) shutdown(socket_.fd(), SHUT_WR);
}

void Connection::close() {
  socket_ = Socket();
  output_.clear();
  sent_ = 0;
}

void close_politely(const std::vector<Connection*>& connections) {
  repeat_until(kFlushLimit, [&] {
    for (auto* connection : connections) connection->flush();
    return std::none_of(connections.begin(), connections.end(),
                        [](auto* connection) { return connection->has_output(); });
  });
  for (auto* connection : connections) connection->finish();
  // A close with bytes unread resets the connection, which can overtake what was sent.
  repeat_until(kCloseLimit, [&] {
    for (auto* connection : connections) connection->receive();
    return std::none_of(connections.begin(), connections.end(),
                        [](auto* connection) { return connection->is_open(); });
  });
  for (auto* connection : connections) connection->close();
}

}  // namespace isobar::control
