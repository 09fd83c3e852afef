// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "comm/mpi/link.hpp"
#include "comm/mpi/task.hpp"

namespace isobar {

/// By the library's own calls.
std::shared_ptr<MpiTask> make_library_task(Operation operation, const MpiLink& link);

/// `total` elements as consecutive (offset, count) of at most `largest`; one
/// piece of zero elements where there are none.
std::vector<std::pair<int64_t, int>> pieces(int64_t total, int largest);

}  // namespace isobar
