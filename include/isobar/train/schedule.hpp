// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace isobar {

/// Learning rate by step: a linear warm-up, then half a cosine.
///
/// With w = warmup_steps, n = total_steps and step s counted from 0 (the rate
/// that update s uses):
///   s < w:       peak * (s + 1) / (w + 1)
///   w <= s < n:  final + (peak - final) * (1 + cos(pi * (s - w) / (n - w))) / 2
///   s >= n:      final
/// The warm-up leaves 0 at once, since an update at rate 0 teaches nothing, and
/// reaches `peak` at step w.
/// The cosine is that of Loshchilov and Hutter 2017 (SGDR), equation 5, without
/// restarts.
struct LearningRateSchedule {
  double peak = 1e-3;
  double final = 0;
  std::int64_t warmup_steps = 0;
  std::int64_t total_steps = 1;

  /// A pure function of the members. Throws UsageError where `step` or one of
  /// them is negative, or warmup_steps exceeds total_steps.
  double at(std::int64_t step) const;
};

/// How many steps of a forecast the loss covers, by optimizer step: `start`, and one
/// more after every `every` optimizer steps, up to `maximum`; `start` throughout
/// where `every` is 0.
struct RolloutSchedule {
  std::int64_t start = 1;
  std::int64_t every = 0;
  std::int64_t maximum = 1;

  /// A pure function of the members. Throws UsageError where `step` or `every` is negative, or
  /// `start` does not lie in [1, maximum].
  std::int64_t at(std::int64_t step) const;
};

}  // namespace isobar
