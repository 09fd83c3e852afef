// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/ddp/bucket_plan.hpp>

#include <vector>

namespace isobar {

/// The 2-norm of all gradients of the model as a whole: replicated and partial
/// ones count once, sharded ones are summed over the model-parallel group that
/// owns them. The same value on every rank of the group. Gradients must have
/// been reduced. On the CPU the bits do not depend on the bucket plan or the number
/// of threads. Collective over the model-parallel group; blocks.
double gradient_norm(const std::vector<NamedParameter>& parameters, const ProcessGrid& grid);

/// What becomes of gradients whose norm is infinite or not a number.
enum class NonFinite {
  /// They are scaled all the same: an infinite norm makes finite values 0 and infinite ones
  /// NaN, as in PyTorch; one that is NaN leaves everything as it is.
  scaled,
  /// DataError that names a parameter. The norm is the same on every rank of a model, and so is
  /// the error's being thrown.
  refused
};

/// Scales all gradients so that their norm is at most `max_norm`, given what
/// gradient_norm returned: by max_norm / (norm + 1e-6), as PyTorch does.
void clip_by_norm(const std::vector<NamedParameter>& parameters, double norm, double max_norm,
                  NonFinite non_finite = NonFinite::scaled);

/// Limits every gradient value to [-limit, limit].
void clip_by_value(const std::vector<NamedParameter>& parameters, double limit);

}  // namespace isobar
