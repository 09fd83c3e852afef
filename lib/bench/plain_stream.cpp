// SPDX-License-Identifier: Apache-2.0
// Called on every rank, on the thread that issues collectives, before anything is timed. Rank 0 and
// its partner hold a TCP connection of their own; the others wait in the gathers, of which all
// ranks call as many, whether a connection came about or not: a failure travels as the text of a
// result. No call of a socket lasts longer than its limit, so a firewall costs seconds and not the
// job.
#include <isobar/bench/plain_stream.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/summary.hpp>
#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <ifaddrs.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

namespace isobar::bench {
namespace {

constexpr int kStreams = 3;
constexpr std::size_t kPiece = 256 << 10;
/// So much at least, unless it takes thrice the time: what an idle link gives away at the start of
/// a stream must not count.
constexpr int64_t kFewestBytes = 16 << 20;
constexpr auto kPause = std::chrono::milliseconds(200);
constexpr int kConnectLimit_s = 3;
constexpr int kSilenceLimit_s = 20;

[[noreturn]] void fail(const std::string& what) {
  throw CommError(fmt::format("plain stream: {}: {}", what, std::strerror(errno)));
}

/// A TCP socket, none of whose calls blocks for longer than its limit.
class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {
    if (descriptor_ < 0) fail("socket");
    set_limit(kSilenceLimit_s);
  }
  ~Socket() { close(descriptor_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int get() const noexcept { return descriptor_; }

  void set_limit(int seconds) const {
    const timeval limit{.tv_sec = seconds, .tv_usec = 0};
    setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(descriptor_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  }

  std::size_t receive(std::vector<char>& into) const {
    const auto got = recv(descriptor_, into.data(), into.size(), 0);
    if (got < 0) fail("receive");
    return static_cast<std::size_t>(got);
  }

  std::size_t send_some(const std::vector<char>& from) const {
    const auto sent = send(descriptor_, from.data(), from.size(), MSG_NOSIGNAL);
    if (sent < 0) fail("send");
    return static_cast<std::size_t>(sent);
  }

 private:
  int descriptor_;
};

Socket tcp_socket() { return Socket(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

sockaddr* generic(sockaddr_in& address) { return reinterpret_cast<sockaddr*>(&address); }

class Listener {
 public:
  Listener() {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    socklen_t length = sizeof(any);
    if (bind(socket_.get(), generic(any), length) || listen(socket_.get(), kStreams)) fail("bind");
    if (getsockname(socket_.get(), generic(any), &length)) fail("getsockname");
    port_ = ntohs(any.sin_port);
  }

  int port() const noexcept { return port_; }
  Socket accept() const { return Socket(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

 private:
  Socket socket_ = tcp_socket();
  int port_ = 0;
};

/// Whether a connection came about within the limit.
bool connect_to(const Socket& socket, const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return false;
  socket.set_limit(kConnectLimit_s);
  const bool connected = connect(socket.get(), generic(address), sizeof(address)) == 0;
  socket.set_limit(kSilenceLimit_s);
  return connected;
}

/// Rank 0 sends when the other is ready, and ends the stream by closing it.
void send_stream(const Socket& socket, double seconds) {
  std::vector<char> piece(kPiece, 'x');
  std::vector<char> ready(1);
  if (socket.receive(ready) != 1) fail("the other rank closed its connection");
  int64_t sent = 0;
  const Stopwatch watch;
  do {
    sent += static_cast<int64_t>(socket.send_some(piece));
  } while (watch.elapsed_s() < seconds || (sent < kFewestBytes && watch.elapsed_s() < 3 * seconds));
}

/// The rate at which payload arrived, from the word to start until the last byte.
double receive_stream(const Socket& socket) {
  std::vector<char> piece(4 * kPiece);
  const Stopwatch watch;
  if (socket.send_some({'r'}) != 1) fail("send");
  int64_t received = 0;
  while (const auto got = socket.receive(piece)) received += static_cast<int64_t>(got);
  return 8e-9 * static_cast<double>(received) / watch.elapsed_s();
}

void send_streams(const Listener& listener, double seconds) {
  for (int i = 0; i < kStreams; ++i) send_stream(listener.accept(), seconds);
}

/// The streams' rates, from the first of the sender's `addresses` that answers.
std::vector<double> receive_streams(const std::vector<std::string>& addresses, int port) {
  std::vector<double> rates;
  for (const auto& address : addresses) {
    while (rates.size() < kStreams) {
      const auto socket = tcp_socket();
      if (!connect_to(socket, address, port)) break;
      std::this_thread::sleep_for(kPause);
      rates.push_back(receive_stream(socket));
    }
    if (!rates.empty()) return rates;
  }
  throw CommError(fmt::format("plain stream: no connection to {} port {} within {} s each",
                              fmt::join(addresses, ", "), port, kConnectLimit_s));
}

/// Numeric addresses of the interfaces that are up, loopback's left out.
std::vector<std::string> own_addresses() {
  std::vector<std::string> found;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return found;
  for (const auto* entry = all; entry; entry = entry->ifa_next) {
    const bool usable = (entry->ifa_flags & IFF_UP) && !(entry->ifa_flags & IFF_LOOPBACK);
    if (!usable || !entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET) continue;
    std::array<char, INET_ADDRSTRLEN> text{};
    const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
    inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size());
    found.emplace_back(text.data());
  }
  freeifaddrs(all);
  return found;
}

/// Host name and network namespace: either alone may be shared by nodes.
std::string own_node() {
  std::array<char, 64> space{};
  const auto length = readlink("/proc/self/ns/net", space.data(), space.size() - 1);
  return fmt::format("{}/{}", host_name(), length > 0 ? space.data() : "");
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

constexpr std::string_view kProblem = "problem ";

/// This rank's part; the receiver's text holds the rates, and the text of one that failed why.
std::string take_part(Subject& subject, int partner, std::vector<std::string> addresses,
                      double seconds) {
  std::unique_ptr<Listener> listener;
  std::string said, result;
  try {
    if (subject.rank() == 0) listener = std::make_unique<Listener>();
    if (listener) said = std::to_string(listener->port());
  } catch (const Error& error) {
    result = std::string(kProblem) + error.what();
  }
  const int port = std::atoi(subject.gather(said).front().c_str());
  if (port == 0) return result;
  try {
    if (listener) send_streams(*listener, seconds);
    if (subject.rank() == partner)
      result = fmt::format("{}", fmt::join(receive_streams(addresses, port), " "));
  } catch (const Error& error) {
    result = std::string(kProblem) + error.what();
  }
  return result;
}

/// Rank 0's problem is often the receiver's too, which knows better.
void read_results(PlainStream& stream, const std::vector<std::string>& results, int partner) {
  for (const int rank : {partner, 0}) {
    if (results[rank].starts_with(kProblem)) {
      stream.problem = results[rank].substr(kProblem.size());
      return;
    }
  }
  std::vector<double> rates;
  for (const auto& word : words(results[partner])) rates.push_back(std::atof(word.c_str()));
  stream.gbit_s = summarize(rates).median;
}

}  // namespace

int choose_partner(const std::vector<std::string>& nodes) {
  const auto other =
      std::find_if(nodes.begin(), nodes.end(), [&](const auto& node) { return node != nodes[0]; });
  if (other != nodes.end()) return static_cast<int>(other - nodes.begin());
  return nodes.size() > 1 ? 1 : 0;
}

PlainStream measure_plain_stream(Subject& subject, double seconds) {
  PlainStream stream;
  const auto nodes = subject.gather(own_node());
  stream.nodes = static_cast<int>(std::set<std::string>(nodes.begin(), nodes.end()).size());
  const int partner = choose_partner(nodes);
  if (partner == 0 || seconds == 0) return stream;
  auto addresses = words(subject.gather(fmt::format("{}", fmt::join(own_addresses(), " ")))[0]);
  const bool loopback = nodes[partner] == nodes[0];
  if (loopback) addresses = {"127.0.0.1"};
  const auto result = take_part(subject, partner, addresses, seconds);
  read_results(stream, subject.gather(result), partner);
  if (stream.problem.empty()) stream.path = loopback ? "loopback" : "network";
  return stream;
}

}  // namespace isobar::bench
