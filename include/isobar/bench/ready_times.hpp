// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/subject.hpp>
#include <isobar/bench/workload.hpp>
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace isobar::bench {

/// When each gradient of a backward pass is there, in seconds since it began.
class ReadyTimes {
 public:
  /// Hooks every tensor, a leaf; one that has such a hook loses it.
  explicit ReadyTimes(std::vector<at::Tensor> leaves);
  ~ReadyTimes();
  ReadyTimes(const ReadyTimes&) = delete;
  ReadyTimes& operator=(const ReadyTimes&) = delete;

  /// Called right before a backward pass.
  void restart();

  /// By leaf, of the last backward pass; 0 where no gradient came.
  const std::vector<double>& seconds() const;

  /// The latest of them.
  double last_s() const;

  /// From the latest gradient until now.
  double since_last_s() const;

 private:
  class Hook;
  struct State;

  std::vector<at::Tensor> leaves_;
  std::shared_ptr<State> state_;
};

/// A step's computation without communication, medians of the slowest rank's times.
struct ComputeProfile {
  double forward_s = 0;
  double backward_s = 0;
  std::vector<double> ready_s;  ///< by trainable parameter, since the backward pass began
};

/// Whether a backward pass adds to gradients that are there, and zero, or makes new ones.
enum class Gradients { accumulated, new_ones };

/// Runs forward and backward passes that start together on all ranks, one to warm up
/// and `repeats` timed ones. Collective; blocks.
ComputeProfile profile_compute(Subject& ranks, const Workload& plain, int repeats,
                               Gradients gradients = Gradients::accumulated);

/// The profile with its times shortened, those of the backward pass all by one factor,
/// where these are smaller: a machine that was slower during the profile must not make
/// a step look better than its computation.
ComputeProfile no_slower_than(ComputeProfile profile, double forward_s, double backward_s);

}  // namespace isobar::bench
