// SPDX-License-Identifier: Apache-2.0
#include "bench/baselines/gloo_place.hpp"

#include <isobar/core/error.hpp>

#include <cstdlib>

#include "bench/baselines/launch.hpp"

namespace isobar::bench {

std::string master_address() {
  const char* address = std::getenv("MASTER_ADDR");
  const char* port = std::getenv("MASTER_PORT");
  return std::string(address ? address : "127.0.0.1") + (port ? std::string(":") + port : "");
}

GlooSubjectOptions gloo_place(const std::string& address) {
  const auto place = read_launch_place();
  GlooSubjectOptions options{.op = Collective::all_gather, .rank = place.rank, .size = place.size};
  const auto colon = address.find(':');
  options.address = address.substr(0, colon);
  if (colon != std::string::npos) options.port = std::atoi(address.c_str() + colon + 1);
  ISOBAR_CHECK(options.port > 0 && options.port < 65536, "--address: '", address,
               "' has no port, wanted HOST or HOST:PORT");
  return options;
}

}  // namespace isobar::bench
