// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace isobar {

/// How values of several ranks become one, element by element.
enum class ReduceOp { sum, minimum, maximum };

std::string_view to_string(ReduceOp op) noexcept;

/// What a parameter's gradient means inside a model-parallel group, where the
/// ranks split the work on one sample and not the weights.
///
/// With M ranks a model and D replicas (M·D ranks in all), and g(m, d) the
/// gradient that rank m of replica d computed:
///
/// - `replicated`: every rank of the group saw the same work. The result is the
///   mean over all ranks, Σ g / (M·D).
/// - `partial`: each rank saw a share of the work. The result is the sum inside
///   the group and the mean over replicas, Σ g / D.
/// - `sharded`: each rank of the group owns other rows of the parameter. The
///   result is the mean over the rank's data-parallel group, Σ_d g(m, d) / D.
///
/// With one rank a model the three are the same mean.
enum class Reduction { replicated, partial, sharded };

std::string_view to_string(Reduction reduction) noexcept;

}  // namespace isobar
