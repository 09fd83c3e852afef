// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/launch/endpoint.hpp>

#include "launch/host_lookup.hpp"

namespace isobar {

/// MASTER_ADDR and MASTER_PORT; no addresses where they are not set. Under a torchrun whose agent
/// holds that port itself, ports that follow from it. Throws UsageError.
Endpoint master_endpoint(const HostLookup& lookup = system_lookup());

/// The first node of a Slurm step, at a port that is the step's; no addresses outside of
/// one. Throws UsageError.
Endpoint slurm_endpoint(const HostLookup& lookup = system_lookup());

}  // namespace isobar
