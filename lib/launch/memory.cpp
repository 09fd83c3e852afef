// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/environment.hpp>

#include <malloc.h>

#include "launch/variables.hpp"

namespace isobar {

bool keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kNever = -1, kMapFrom = 1 << 30;
  for (const char* name : {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}) {
    if (!variable(name).empty()) return false;
  }
  if (variable("GLIBC_TUNABLES").find("glibc.malloc.") != std::string::npos) return false;
  return mallopt(M_MMAP_THRESHOLD, kMapFrom) == 1 && mallopt(M_TRIM_THRESHOLD, kNever) == 1;
#else
  return false;
#endif
}

}  // namespace isobar
