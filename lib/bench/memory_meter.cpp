// SPDX-License-Identifier: Apache-2.0
#include "bench/memory_meter.hpp"

#include <malloc.h>

#include <fstream>
#include <string>

namespace isobar::bench {
namespace {

/// A line of /proc/self/status, in bytes; -1 if there is none.
int64_t status_bytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return 1024 * std::stoll(line.substr(name.size() + 1));
  }
  return -1;
}

/// Makes the high-water mark what is resident now.
bool reset_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

}  // namespace

int64_t added_bytes(const std::function<void()>& work) {
  malloc_trim(0);
  const bool reset = reset_peak();
  const int64_t before = status_bytes("VmRSS");
  work();
  const int64_t peak = status_bytes("VmHWM");
  return reset && before >= 0 && peak >= 0 ? peak - before : -1;
}

}  // namespace isobar::bench
