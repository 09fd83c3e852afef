// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace isobar {

/// `count` elements in `parts` runs of nearly equal length, each in segments.
struct Parts {
  int64_t count;
  int64_t parts;
  /// Elements of a segment.
  int64_t segment;

  int64_t begin(int64_t part) const { return count / parts * part + std::min(part, count % parts); }

  /// Segments of the longest part; others may end with an empty one.
  int64_t segments() const { return ((count + parts - 1) / parts + segment - 1) / segment; }

  int64_t first(int64_t part, int64_t s) const {
    return std::min(begin(part) + s * segment, begin(part + 1));
  }
  int64_t length(int64_t part, int64_t s) const { return first(part, s + 1) - first(part, s); }
};

}  // namespace isobar
