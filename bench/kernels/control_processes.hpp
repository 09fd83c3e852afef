// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

namespace isobar::bench {

/// A world of real processes on this machine that connect in the same instant: how long its start
/// with three rounds takes, what sockets, memory and bytes that costs rank 0 and each of the
/// others, and after what time the last of them knows that one was killed. `error` is 1 where a
/// rank has a wrong result, another cause than that, or none within two minutes. Blocks; the caller
/// must have no other threads, since the ranks are its children by fork().
nlohmann::json measure_processes(int size, double seconds);

/// Processor time that the control thread of this process has had.
double control_thread_s();

}  // namespace isobar::bench
