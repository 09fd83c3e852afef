// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/gradient_buffers.hpp"

#include <string>

namespace isobar {

/// What one rank finds wrong with its parameters in a step. The step goes on with zeros for them,
/// so that the others stay in step, and the first of each kind is thrown when it has ended.
class StepErrors {
 public:
  explicit StepErrors(int rank) : rank_(rank) {}

  /// The parameter is not any more what was wrapped: it has lost its hook or, where that
  /// `is_attached`, has another shape.
  void add_misfit(const NamedParameter& parameter, bool is_attached);

  /// Its `.grad` was changed while it belonged to the reducer.
  void add_interference(const NamedParameter& parameter, Interference done);

  /// Its `.grad` was under way in an earlier wrapper.
  void add_left_over(const NamedParameter& parameter);

  bool empty() const { return misfit_.empty() && interference_.empty(); }
  void clear();

  /// Throws UsageError where somebody changed a gradient, and forgets it.
  void throw_interference();

  /// Throws UsageError where there is any, and forgets all.
  void throw_first();

 private:
  int rank_;
  std::string misfit_;        ///< the first; empty: none
  std::string interference_;  ///< the first; empty: none
};

}  // namespace isobar
