// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bench/harness/step_arguments.hpp"

namespace isobar::bench {

/// A WeatherGnn on random data: two input steps of the prognostic variables and the
/// forcings in, the prognostic variables out, tables of 8. Builds the mesh once.
MakeWorkload make_gnn_workload(const StepArguments& arguments, int rank);

}  // namespace isobar::bench
