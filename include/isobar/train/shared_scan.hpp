// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/data/field_scan.hpp>

#include <cstdint>
#include <functional>

namespace isobar {

/// Looks through all fields of a scan, of which each rank of `world` reads its own part, and gives
/// every rank all that was found: the same bits on every rank, and for any number of them.
///
/// Ranks may take as long as they need (run_at_own_pace). `progress` is called on every rank:
/// (fields that all of them have read, fields to read). What reading throws on one rank is thrown
/// on every rank. The scan is of the same data with the same options everywhere. Collective;
/// blocks.
void share_scan(FieldScan& scan, Communicator& world,
                const std::function<void(int64_t done, int64_t total)>& progress = nullptr);

}  // namespace isobar
