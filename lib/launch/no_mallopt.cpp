// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/memory.hpp>

namespace isobar {

bool keep_freed_memory() { return false; }

}  // namespace isobar
