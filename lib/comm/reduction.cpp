// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/reduction.hpp>

namespace isobar {

std::string_view to_string(ReduceOp op) noexcept {
  switch (op) {
    case ReduceOp::sum:
      return "sum";
    case ReduceOp::minimum:
      return "minimum";
    case ReduceOp::maximum:
      return "maximum";
  }
  return "unknown";
}

std::string_view to_string(Reduction reduction) noexcept {
  switch (reduction) {
    case Reduction::replicated:
      return "replicated";
    case Reduction::partial:
      return "partial";
    case Reduction::sharded:
      return "sharded";
  }
  return "unknown";
}

}  // namespace isobar
