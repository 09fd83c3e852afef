// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>

namespace isobar {

/// Counts the memory of tensors, as long as it lives: what plan_memory() predicts,
/// measured.
///
/// On the CPU it counts what the thread that made it asks LibTorch's allocator for, from
/// then on, until it is freed on whatever thread; what other threads ask for, such as a
/// loader's, is not seen. On other devices it reads the count that the device's allocator
/// keeps for the process.
///
/// The first one puts a hook before LibTorch's allocator that stays and costs threads
/// without a count a comparison. Belongs to its thread; the innermost one counts.
class TensorMemory {
 public:
  explicit TensorMemory(c10::Device device);
  ~TensorMemory();
  TensorMemory(const TensorMemory&) = delete;
  TensorMemory& operator=(const TensorMemory&) = delete;

  /// In bytes; -1 on a device whose allocator does not count.
  int64_t live() const;
  /// The most that was live at once since the beginning or the last restart().
  int64_t peak() const;
  void restart();

  /// All that a device has, in bytes; 0 for the CPU, and where it does not tell.
  static int64_t capacity(c10::Device device);

 private:
  struct Counts;
  friend struct CountingAllocator;
  friend class CountedBlocks;

  c10::Device device_;
  std::shared_ptr<Counts> counts_;  ///< on the CPU
  std::shared_ptr<Counts> outer_;
};

}  // namespace isobar
