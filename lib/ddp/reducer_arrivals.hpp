// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/reducer_options.hpp>

#include <cstdint>
#include <vector>

namespace isobar {

/// Which gradients of a step have come, and for which buckets no more are
/// expected before finish(). See Launch for the rules.
class Arrivals {
 public:
  Arrivals(int64_t parameters, Launch launch);

  /// Starts a step with these buckets; what has been counted stays.
  void set_plan(const BucketPlan& plan);

  /// These parameters have no gradients in this step and the next ones. Before the first
  /// gradient of a step.
  void set_frozen(const std::vector<bool>& frozen);

  /// This one has gradients in this step after all.
  void thaw(int64_t parameter);

  /// One more gradient of the parameter.
  void add(int64_t parameter);

  /// The parameter's gradients of this step were thrown away.
  void forget(int64_t parameter);

  /// Starts the step anew: all were.
  void start_step();

  /// True if the bucket may leave before finish().
  bool is_complete(int64_t bucket) const { return missing_[bucket] == 0; }

  /// True if one more gradient of the parameter would be more than were counted.
  bool is_exhausted(int64_t parameter) const;
  int64_t expected(int64_t parameter) const { return expected_[parameter]; }

  /// True if the parameter has had a gradient in this step.
  bool has_come(int64_t parameter) const { return seen_[parameter] > 0; }

  /// All parameters in the order of their latest gradients; those that had none
  /// follow in the order of the plan.
  std::vector<int64_t> order() const;

  /// Starts the next step. Returns how many parameters had fewer gradients in
  /// this one than were counted.
  int64_t end_step();

 private:
  bool is_counted() const { return launch_ == Launch::counted && !expected_.empty(); }
  int64_t gradients_awaited(int64_t parameter) const;

  Launch launch_;
  BucketPlan plan_;
  std::vector<int64_t> bucket_of_;  ///< by parameter
  /// By parameter, counted in the first step in which it is not frozen; empty before the first.
  std::vector<int64_t> expected_;
  std::vector<bool> frozen_;  ///< by parameter

  // The step under way.
  std::vector<int64_t> seen_;     ///< gradients, by parameter
  std::vector<int64_t> latest_;   ///< by parameter, when its latest gradient came; 0: never
  std::vector<int64_t> missing_;  ///< gradients that a bucket still waits for
  int64_t clock_ = 0;
};

}  // namespace isobar
