// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace isobar {

/// For its lifetime the calling thread, and for good the threads that it starts
/// meanwhile, ask the scheduler for slices of 0.1 ms.
///
/// Threads that move data sleep, and have little to do when they wake. Where every core
/// computes, Linux lets what runs there end its slice of some milliseconds first, and each
/// step of a ring waits that long; a thread that asks for less goes first. It gets no larger
/// share of the processor, and nobody's permission is needed. In effect from Linux 6.12 on;
/// before that, and where the call is not allowed, nothing happens.
class ShortSlices {
 public:
  ShortSlices() noexcept;
  ~ShortSlices();
  ShortSlices(const ShortSlices&) = delete;
  ShortSlices& operator=(const ShortSlices&) = delete;

 private:
  uint64_t before_ns_ = 0;
};

/// The calling thread's slice; 0 where the system does not say.
uint64_t thread_slice_ns() noexcept;

}  // namespace isobar
