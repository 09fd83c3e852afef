// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace isobar {

/// The name by which this machine knows itself, or "unknown"; not always one that others can find
/// it by.
std::string host_name();

/// What this process may use: the machine's memory, or less where a control group says so.
int64_t machine_memory_bytes();

/// Cores that this process may run on, and those that its launcher may, which binds its ranks to
/// some of them. Equal where ranks are not bound, or there is no launcher.
struct UsableCores {
  int own = 1;
  int launcher = 1;
};
UsableCores usable_cores();

/// Seconds in which threads of this process were ready to run and others had the cores, since they
/// began; of threads that have ended nothing is in it, so it can become less. Nothing where Linux
/// does not count it.
std::optional<double> run_delay_s();

}  // namespace isobar
