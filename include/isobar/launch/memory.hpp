// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace isobar {

/// Lets malloc keep memory that is freed, for the next step, where it would give it back to Linux
/// and have it cleared anew, page by page: that is up to a fourth of a training step on the CPU, or
/// nothing, by chance of what lies where. For main(), before memory is used. The process stays as
/// large as it has been; `malloc_trim()` makes it small again. Does nothing, and returns false,
/// where the environment already says what malloc does (MALLOC_MMAP_THRESHOLD_,
/// MALLOC_TRIM_THRESHOLD_, GLIBC_TUNABLES), and where malloc is not glibc's.
bool keep_freed_memory();

}  // namespace isobar
