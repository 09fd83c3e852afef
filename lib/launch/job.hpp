// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/launch/environment.hpp>

#include <string>

namespace isobar {

/// Whether the step of Slurm's that this process is in started these ranks, by their number: in
/// which order they are counted is the user's, and all must answer alike.
bool is_slurm_step(const LaunchEnvironment& launch);

/// The name of this launch, as far as the launcher gives one; ranks that were made by hand may be
/// in several steps of Slurm's or mpirun's.
std::string launch_name();

}  // namespace isobar
