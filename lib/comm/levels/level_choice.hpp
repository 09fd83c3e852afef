// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace isobar {

/// Which of two ways is faster, by size: each class of sizes (a power of two of bytes)
/// tries both in turn and keeps the one with the shorter best time.
class LevelChoice {
 public:
  enum class Way { flat, node };

  /// The way of the next operation of this size.
  Way next(int64_t bytes) const;

  /// True while next() is a trial, whose time is to be told by add().
  bool is_trial(int64_t bytes) const;

  /// The slowest rank's time of the trial that next() named; the same on all ranks.
  void add(int64_t bytes, double seconds);

 private:
  struct Class {
    int trials = 0;
    std::array<double, 2> best_s{};
  };

  static size_t class_of(int64_t bytes);

  std::array<Class, 64> classes_{};
};

}  // namespace isobar
