// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// The step in seconds by which most of these increasing times follow each other, to the minute
/// where it is one at least; 0 where there is none.
int64_t usual_step(const std::vector<int64_t>& times);

/// A step for people: "1 h", "6 h", "5 d", "a month", "irregular" for 0.
std::string step_text(const std::vector<int64_t>& times);

/// What rounding did to times.
struct RoundedTimes {
  int64_t step = 0;           ///< seconds; 0 where nothing was rounded
  int64_t tolerance = 0;      ///< seconds
  int64_t rounded = 0;        ///< how many times were moved
  int64_t furthest = 0;       ///< by how many seconds at most
  std::vector<int64_t> left;  ///< times further off than the tolerance, as they are
};

/// Moves times that were stored inexactly to whole steps: those within a twentieth of the usual
/// step, at most ten minutes, of the steps on which nine in ten of them lie. Where no such steps
/// are found, as in data by months, nothing moves.
RoundedTimes round_to_steps(std::vector<int64_t>& times);

}  // namespace isobar
