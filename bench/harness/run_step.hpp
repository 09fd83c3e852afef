// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bench/harness/measure_step.hpp"
#include "bench/harness/step_arguments.hpp"
#include "bench/harness/subject.hpp"

#include <nlohmann/json_fwd.hpp>

namespace isobar::bench {

/// Measures the step that `arguments` ask for; rank 0 prints a table, or the report on
/// standard output in its place. The fields of `model_fields` come into the row beside
/// the common ones. Collective; blocks. Returns the exit code: 0 if gradients and
/// parameters were right.
int run_step(Subject& ranks, const StepCase& step_case, const StepArguments& arguments,
             const nlohmann::json& model_fields, const StepOptions& options);

/// The options that the command line gives.
StepOptions step_options(const StepArguments& arguments);

/// What the row says of a linear stack.
nlohmann::json linear_stack_fields(const LinearStackOptions& options);

}  // namespace isobar::bench
