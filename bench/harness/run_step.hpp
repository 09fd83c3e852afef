// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bench/harness/measure_step.hpp"
#include "bench/harness/step_arguments.hpp"
#include "bench/harness/subject.hpp"

#include <nlohmann/json_fwd.hpp>

namespace isobar::bench {

/// The network and the data of `rank` that the command line asks for. Throws UsageError
/// for a grid that there is not.
MakeWorkload choose_workload(const StepArguments& arguments, int rank);

/// The options that the command line gives.
StepOptions step_options(const StepArguments& arguments);

/// Measures the step; rank 0 prints a table, or the report on standard output in its
/// place. `more_fields` come into the row beside the common ones. Collective; blocks.
/// Returns the exit code: 0 if gradients and parameters were right.
int run_step(Subject& ranks, const StepCase& step_case, const StepArguments& arguments,
             const nlohmann::json& more_fields, const StepOptions& options);

}  // namespace isobar::bench
