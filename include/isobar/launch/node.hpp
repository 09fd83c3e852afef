// SPDX-License-Identifier: Apache-2.0
// What a process can say of the machine that it runs on, for finding and grouping ranks. Its name,
// memory and cores are core's.
#pragma once

#include <string>
#include <vector>

namespace isobar {

/// Equal for two processes if and only if they can share memory: same kernel, same
/// /dev/shm.
std::string node_identity();

/// This machine's numeric addresses that are up, best first; those of the loopback
/// interface are last.
std::vector<std::string> own_addresses();

/// The numeric addresses of a name; empty if it has none. Asks the system's resolver, and blocks as
/// long.
std::vector<std::string> addresses_of(const std::string& name);

/// "infiniband", "cxi" (Slingshot), "opa" ...; empty where the kernel shows no fabric
/// with a port that is up.
std::string fabric();

}  // namespace isobar
