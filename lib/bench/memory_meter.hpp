// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace isobar::bench {

/// What `work` adds to the process's resident memory at its highest, in bytes, beyond
/// what is resident before it; -1 where the kernel does not tell (/proc/self on Linux).
/// What was freed before goes back to the system first.
int64_t added_bytes(const std::function<void()>& work);

}  // namespace isobar::bench
