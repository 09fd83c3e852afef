// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>

#include <string>

#include "comm/nccl/alias.hpp"

namespace isobar {

// Needs no GPU.
std::string nccl_library_version() {
  int code = 0;
  if (ncclGetVersion(&code) != ncclSuccess) return {};
  const auto number = [](int n) { return std::to_string(n); };
  return std::string(nccl::kLibrary) + " " + number(code / 10000) + "." + number(code / 100 % 100) +
         "." + number(code % 100);
}

}  // namespace isobar
