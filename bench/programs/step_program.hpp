// SPDX-License-Identifier: Apache-2.0
// What `isobar bench step` and the programs of bench/ that measure a step have in common.
#pragma once

#include <isobar/bench/step_rows.hpp>
#include <nlohmann/json_fwd.hpp>

namespace CLI {
class App;
}

namespace isobar {

/// Adds the options, each with its check; `arguments` must outlive the parsing.
void add_step_options(CLI::App& app, bench::StepArguments& arguments);

/// Measures the step; rank 0 prints a table, or the report on standard output in its
/// place. `more_fields` come into the row beside the common ones. Collective; blocks.
/// Returns the exit code: 0 if gradients and parameters were right.
int run_step(bench::Subject& ranks, const bench::StepCase& step_case,
             const bench::StepArguments& arguments, const nlohmann::json& more_fields,
             const bench::StepOptions& options);

}  // namespace isobar
