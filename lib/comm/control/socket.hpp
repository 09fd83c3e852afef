// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "comm/backend/fork.hpp"
#include "comm/control/process_table.hpp"

namespace isobar::control {

/// A socket or another descriptor that is closed with its owner. All made here
/// are non-blocking and inherited neither by programs that this process starts nor by
/// children that it forks.
class Socket {
 public:
  Socket() = default;
  /// What `open` returns, none where that is negative.
  explicit Socket(const std::function<int()>& open);
  ~Socket();
  Socket(Socket&& other) noexcept : home_(other.home_), fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(home_, other.home_);
    std::swap(fd_, other.fd_);
    return *this;
  }

  int fd() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  HomeProcess home_;
  int fd_ = -1;
};

/// Listens on all addresses of both families, or of IPv4 where there is no IPv6;
/// throws CommError.
Socket listen_on(int port);
int port_of(int fd);

/// The next connection that waits; none with the reason in `error`.
Socket accept_from(int listener, int& error);

/// A connection to a numeric address; none with the reason in `error`.
Socket connect_to(const std::string& address, int port, Time deadline, std::string& error);

/// This side's address and the other one's, an IPv4 one without the prefix of the mapped form.
std::string local_address(const Socket& socket);
std::string peer_address(const Socket& socket);

/// Blocks until the socket can be read or the time is over.
void wait_readable(int fd, Time deadline);

/// Blocks for what happens to sockets, each known by a number.
class Poller {
 public:
  Poller();

  void add(int fd, int tag);
  void remove(int fd);

  /// Readable while something else is.
  int fd() const noexcept { return epoll_.fd(); }

  /// Ends a wait from another thread, or the next one.
  void wake() noexcept;

  /// The numbers of those that have something to read; a closed socket is
  /// removed by itself.
  std::vector<int> wait(Milliseconds limit);

 private:
  Socket epoll_;
  Socket wake_;
};

}  // namespace isobar::control
