// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "comm/control/message.hpp"
#include "comm/control/socket.hpp"

namespace isobar::control {

/// One end of a control connection; nothing here blocks. What the kernel does not
/// take waits in a buffer of limited size; a connection whose other end does not read
/// beyond that counts as closed.
class Connection {
 public:
  Connection(Socket socket, Hears hears);

  bool is_open() const noexcept { return static_cast<bool>(socket_); }
  const Socket& socket() const noexcept { return socket_; }

  /// What may come from now on.
  void hear(Hears hears) { reader_.hear(hears); }

  /// As FrameReader's.
  int other_version() const noexcept { return reader_.other_version(); }

  void send(const ControlMessage& message) { send_frame(encode(message)); }
  void send_frame(const std::string& frame);
  void flush();
  bool has_output() const noexcept { return sent_ < output_.size(); }

  /// What has come by now. Closes the connection where the other end has, or where
  /// something else came than messages.
  std::vector<ControlMessage> receive();

  /// Nothing is sent any more; the other end sees the end.
  void finish();
  void close();

 private:
  Socket socket_;
  FrameReader reader_;
  std::string output_;
  size_t sent_ = 0;
};

/// Sends what waits in `connections` and closes them once the other ends have, so that
/// nothing of it is lost; both within limits.
void close_politely(const std::vector<Connection*>& connections);

}  // namespace isobar::control
