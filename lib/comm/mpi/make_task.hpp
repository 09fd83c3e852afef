// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <memory>

#include "comm/mpi/link.hpp"
#include "comm/mpi/task.hpp"

namespace isobar {

/// What carries an operation out: by messages of ours, or by the library's own
/// calls where the buffer is small. All ranks choose the same.
std::shared_ptr<MpiTask> make_task(Operation operation, int rank, int size, const MpiLink& link);

}  // namespace isobar
