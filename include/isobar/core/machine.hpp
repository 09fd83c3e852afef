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

/// Seconds in which the calling thread was ready to run and did not, since it began: others had the
/// core, or a quota was used up. Nothing where Linux does not count it.
std::optional<double> run_delay_s();

/// Seconds of processor time that all other threads of this process have had, those that have ended
/// too. Nothing where it cannot be asked for.
std::optional<double> other_threads_cpu_s();

/// Seconds in which a quota of this process's control group, or of one above it, kept its threads
/// from running (`cpu.max`, `cpu.cfs_quota_us`), summed over cores. Nothing where none is counted.
std::optional<double> throttled_s();

}  // namespace isobar
