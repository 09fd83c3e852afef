// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/ddp/bucket_plan.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// Which rows of a parameter a rank of a model-parallel group owns.
struct ShardedRows {
  at::Tensor rows;    ///< [n] int64 on the CPU: row i of the rank's tensor is row rows[i] of all
  int64_t total = 0;  ///< rows of all ranks of the group together
};

/// The rows that this rank owns of the parameter of that name; nothing where the
/// parameter is whole on every rank.
using RowsOf = std::function<std::optional<ShardedRows>(const std::string& name)>;

/// Throws the same UsageError on every rank unless each parameter that is sharded over
/// a model-parallel group has rows, as many as its tensor, and the ranks of the group
/// own each of all rows once; and no other parameter has any. `rows_of` may be
/// empty. Collective over the world; blocks.
void check_sharded_rows(const std::vector<NamedParameter>& parameters, const RowsOf& rows_of,
                        const ProcessGrid& grid);

}  // namespace isobar
