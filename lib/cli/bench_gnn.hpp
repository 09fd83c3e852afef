// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "bench/harness/workload.hpp"
#include "cli/bench_step.hpp"

namespace isobar {

/// A WeatherGnn on random data: two input steps of the prognostic variables and the
/// forcings in, the prognostic variables out, tables of 8. Builds the mesh once.
bench::MakeWorkload make_gnn_workload(const BenchStepArguments& arguments, int rank);

/// What the row says of it.
nlohmann::json gnn_fields(const BenchStepArguments& arguments);

}  // namespace isobar
