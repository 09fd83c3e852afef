// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/memory.hpp>

#include <malloc.h>

#include "launch/variables.hpp"

namespace isobar {
namespace {

constexpr int kNeverTrim = -1;
/// What is larger is mapped, and given back: a GiB, or the most that glibc takes before 2.35.
constexpr int kMapFrom = 1 << 30, kMapFromBefore = 32 << 20;

}  // namespace

bool keep_freed_memory() {
  for (const char* name : {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}) {
    if (!variable(name).empty()) return false;
  }
  if (variable("GLIBC_TUNABLES").find("glibc.malloc.") != std::string::npos) return false;
  const bool maps_less =
      mallopt(M_MMAP_THRESHOLD, kMapFrom) == 1 || mallopt(M_MMAP_THRESHOLD, kMapFromBefore) == 1;
  return mallopt(M_TRIM_THRESHOLD, kNeverTrim) == 1 && maps_less;
}

}  // namespace isobar
