// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/measure_step.hpp>
#include <isobar/bench/plain_stream.hpp>
#include <isobar/bench/step_arguments.hpp>
#include <isobar/bench/subject.hpp>
#include <nlohmann/json_fwd.hpp>

#include <string>

namespace isobar::bench {

/// Measures the step, and gives its row: times are the slowest rank's, what is said of buckets is
/// this rank's. `stream` is what the same call has measured. Gradients and parameters were right
/// where the row's `error` is 0, on every rank or on none. Collective; blocks.
nlohmann::json step_row(Subject& ranks, const StepCase& step_case, const StepArguments& arguments,
                        const PlainStream& stream, const StepOptions& options);

/// The row as a table for people.
std::string step_table(const nlohmann::json& row);

}  // namespace isobar::bench
