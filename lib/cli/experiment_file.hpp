// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/cluster/profile.hpp>
#include <isobar/weather/experiment.hpp>

#include <string>
#include <vector>

namespace isobar {

/// An experiment file, read and checked. Its data.path may begin with the name of a folder of data
/// sets, as "{era5}/2m.nc", which is then the machine's. Throws UsageError for a name that the
/// machine does not have.
Experiment read_experiment_file(const std::string& path, const std::vector<std::string>& overrides,
                                const ClusterProfile& machine);

/// The same on the machine that this is, which is looked at only where there is such a name.
Experiment read_experiment_file(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace isobar
