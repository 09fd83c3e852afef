// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/node.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <ifaddrs.h>
#include <netdb.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>

#include <isobar/core/error.hpp>

namespace isobar {
namespace {

std::string first_line(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

/// Numeric; empty for anything but an IPv4 or IPv6 address that other machines can use.
std::string numeric(const sockaddr* address) {
  char text[NI_MAXHOST] = {};
  if (!address || (address->sa_family != AF_INET && address->sa_family != AF_INET6)) return {};
  const auto length = address->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (getnameinfo(address, static_cast<socklen_t>(length), text, sizeof(text), nullptr, 0,
                  NI_NUMERICHOST) != 0) {
    return {};
  }
  const std::string found = text;
  return found.starts_with("fe80") ? std::string() : found;  // is of one link only
}

bool any_port_up(const std::filesystem::path& folder) {
  std::error_code none;
  for (const auto& device : std::filesystem::directory_iterator(folder, none)) {
    for (const auto& port : std::filesystem::directory_iterator(device.path() / "ports", none)) {
      if (first_line(port.path() / "state").find("ACTIVE") != std::string::npos) return true;
    }
  }
  return false;
}

}  // namespace

std::string node_identity() {
  struct stat shared {};
  stat("/dev/shm", &shared);
  return detail::join(first_line("/proc/sys/kernel/random/boot_id"), "/", shared.st_dev);
}

std::vector<std::string> own_addresses() {
  ifaddrs* raw = nullptr;
  if (getifaddrs(&raw) != 0) return {"127.0.0.1"};
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> all(raw, freeifaddrs);
  std::vector<std::string> outside;
  std::vector<std::string> loopback;
  for (const auto* one = raw; one; one = one->ifa_next) {
    const auto address = numeric(one->ifa_addr);
    if (address.empty() || !(one->ifa_flags & IFF_UP)) continue;
    ((one->ifa_flags & IFF_LOOPBACK) ? loopback : outside).push_back(address);
  }
  outside.insert(outside.end(), loopback.begin(), loopback.end());
  return outside;
}

std::vector<std::string> addresses_of(const std::string& name) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  if (getaddrinfo(name.c_str(), nullptr, &hints, &raw) != 0) return {};
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(raw, freeaddrinfo);
  std::vector<std::string> found;
  for (const auto* one = raw; one; one = one->ai_next) {
    const auto address = numeric(one->ai_addr);
    const bool known = std::find(found.begin(), found.end(), address) != found.end();
    if (!address.empty() && !known) found.push_back(address);
  }
  return found;
}

std::string fabric() {
  std::error_code none;
  if (std::filesystem::exists("/sys/class/cxi", none)) return "cxi";
  return any_port_up("/sys/class/infiniband") ? "infiniband" : "";
}

}  // namespace isobar
