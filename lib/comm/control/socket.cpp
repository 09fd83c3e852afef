// SPDX-License-Identifier: Apache-2.0
// A descriptor belongs to one thread at a time; only Poller::wake() may come from another, by an
// eventfd, whose writes are atomic. All are non-blocking and known to fork.hpp, so that no helper
// process keeps a dead rank's connection open. Addresses are numeric: no name server is asked,
// which could block.
#include "comm/control/socket.hpp"

#include <isobar/core/error.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <netdb.h>
#include <poll.h>
#include <system_error>

namespace isobar::control {
namespace {

/// All ranks of a large job may connect in one moment.
constexpr int kBacklog = 4096;
constexpr int kStreamFlags = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

std::string reason_of(int error) { return std::generic_category().message(error); }

using AddressInfo = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

AddressInfo resolve(const char* address, int port, int family, int flags) {
  addrinfo hints{};
  hints.ai_family = family;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(address, std::to_string(port).c_str(), &hints, &found) != 0) found = nullptr;
  return {found, &freeaddrinfo};
}

void set_option(int fd, int level, int option, int value) {
  setsockopt(fd, level, option, &value, sizeof(value));
}

/// A listening socket, or none with the reason in `error`.
Socket try_to_listen(int family, int port, int& error) {
  const auto address = resolve(nullptr, port, family, AI_PASSIVE);
  Socket socket([&] { return ::socket(family, kStreamFlags, 0); });
  error = EAFNOSUPPORT;
  if (!socket || !address) return {};
  // The port of a job that has just ended is free, although its connections still close.
  set_option(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (family == AF_INET6) set_option(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  const bool listens = bind(socket.fd(), address->ai_addr, address->ai_addrlen) == 0 &&
                       listen(socket.fd(), kBacklog) == 0;
  error = listens ? 0 : errno;
  return listens ? std::move(socket) : Socket();
}

Milliseconds left_until(Time deadline) {
  const auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now());
  return std::clamp(left, Milliseconds(0), Milliseconds(60'000));
}

void wait_for(int fd, short events, Time deadline) {
  pollfd entry{fd, events, 0};
  while (poll(&entry, 1, static_cast<int>(left_until(deadline).count())) < 0 && errno == EINTR) {
  }
}

int connection_error(int fd) {
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

bool is_connected(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  return getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
}

/// 0, or why there is no connection.
int connect_in_time(const Socket& socket, const addrinfo& address, Time deadline) {
  if (connect(socket.fd(), address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS && errno != EINTR) return errno;
  // A refusal shows in the socket's error; a socket without one may still have no peer.
  wait_for(socket.fd(), POLLOUT, deadline);
  if (const int error = connection_error(socket.fd())) return error;
  return is_connected(socket.fd()) ? 0 : ETIMEDOUT;
}

}  // namespace

Socket::Socket(const std::function<int()>& open) : fd_(open_unshared(open)) {}

// In a forked child the number may be another descriptor's by now.
Socket::~Socket() {
  if (fd_ >= 0 && home_.is_here()) close_unshared(fd_);
}

Socket listen_on(int port) {
  int error = 0;
  auto socket = try_to_listen(AF_INET6, port, error);
  if (error == EAFNOSUPPORT || error == EADDRNOTAVAIL) socket = try_to_listen(AF_INET, port, error);
  if (!socket) {
    throw CommError(detail::join("control connection: cannot listen on port ", port,
                                 " of all addresses: ", reason_of(error)));
  }
  return socket;
}

int port_of(int fd) {
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size);
  // The port lies at the same place in both families' addresses.
  return ntohs(reinterpret_cast<const sockaddr_in&>(own).sin_port);
}

Socket accept_from(int listener, int& error) {
  Socket socket([&] {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    error = fd < 0 ? errno : 0;
    return fd;
  });
  // Frames are short and urgent: none waits for the one before it to be acknowledged.
  if (socket) set_option(socket.fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  return socket;
}

Socket connect_to(const std::string& address, int port, Time deadline, std::string& error) {
  const auto info = resolve(address.c_str(), port, AF_UNSPEC, AI_NUMERICHOST);
  error = "not a numeric address";
  if (!info) return {};
  Socket socket([&] { return ::socket(info->ai_family, kStreamFlags, 0); });
  const int failure = socket ? connect_in_time(socket, *info, deadline) : errno;
  error = reason_of(failure);
  if (failure != 0) return {};
  set_option(socket.fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  return socket;
}

namespace {

using NameCall = int (*)(int, sockaddr*, socklen_t*);

std::string address_by(NameCall call, const Socket& socket) {
  sockaddr_storage found{};
  socklen_t size = sizeof(found);
  std::array<char, NI_MAXHOST> text{};
  auto* address = reinterpret_cast<sockaddr*>(&found);
  if (call(socket.fd(), address, &size) != 0) return {};
  getnameinfo(address, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
  const std::string name = text.data();
  const std::string mapped = "::ffff:";
  return name.rfind(mapped, 0) == 0 ? name.substr(mapped.size()) : name;
}

}  // namespace

std::string local_address(const Socket& socket) { return address_by(&getsockname, socket); }
std::string peer_address(const Socket& socket) { return address_by(&getpeername, socket); }

void wait_readable(int fd, Time deadline) { wait_for(fd, POLLIN, deadline); }

namespace {

constexpr int kWakeTag = -1;

}  // namespace

Poller::Poller()
    : epoll_([] { return epoll_create1(EPOLL_CLOEXEC); }),
      wake_([] { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }) {
  if (!epoll_ || !wake_) {
    throw CommError("control connection: no descriptor to be had: " + reason_of(errno));
  }
  add(wake_.fd(), kWakeTag);
}

void Poller::add(int fd, int tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = tag;
  if (epoll_ctl(epoll_.fd(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw CommError("control connection: cannot wait for a socket: " + reason_of(errno));
  }
}

void Poller::remove(int fd) { epoll_ctl(epoll_.fd(), EPOLL_CTL_DEL, fd, nullptr); }

void Poller::wake() noexcept { eventfd_write(wake_.fd(), 1); }

std::vector<int> Poller::wait(Milliseconds limit) {
  std::array<epoll_event, 64> events;
  const int count =
      epoll_wait(epoll_.fd(), events.data(), events.size(), static_cast<int>(limit.count()));
  std::vector<int> tags;
  for (int i = 0; i < count; ++i) {
    if (events[i].data.fd != kWakeTag) {
      tags.push_back(events[i].data.fd);
      continue;
    }
    eventfd_t ignored = 0;
    eventfd_read(wake_.fd(), &ignored);
  }
  return tags;
}

}  // namespace isobar::control
