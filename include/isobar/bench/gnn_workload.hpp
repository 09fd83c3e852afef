// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/step_arguments.hpp>

namespace isobar {
class Communicator;
}

namespace isobar::bench {

/// A WeatherGnn on random data: two input steps of the prognostic variables and the
/// forcings in, the prognostic variables out, tables of 8. Builds the mesh once.
MakeWorkload make_gnn_workload(const StepArguments& arguments, int rank);

/// The same network over the ranks of `model`, which must outlive what is made: each has
/// its part of the graph and of the data, and its loss is a share of the model's.
MakeWorkload make_sharded_gnn_workload(const StepArguments& arguments, Communicator& model);

}  // namespace isobar::bench
