// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/sharded_rows.hpp>

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <utility>

namespace isobar {
namespace {

void check_own(const NamedParameter& parameter, const std::optional<ShardedRows>& own,
               int model_ranks) {
  const bool sharded = parameter.reduction == Reduction::sharded;
  ISOBAR_CHECK(own || !sharded || model_ranks == 1, "parameter '", parameter.name,
               "' is sharded over a model-parallel group, but nothing says which rows a rank owns; "
               "its checkpoint would hold one shard");
  if (!own) return;
  const auto& [rows, total] = *own;
  ISOBAR_CHECK(sharded || model_ranks == 1, "parameter '", parameter.name,
               "' has rows of its own on each rank, but its reduction is ",
               to_string(parameter.reduction), ", wanted sharded");
  ISOBAR_CHECK(
      rows.defined() && rows.is_cpu() && rows.dim() == 1 && rows.scalar_type() == at::kLong,
      "parameter '", parameter.name, "': rows have to be a tensor [n] of int64 on the CPU");
  ISOBAR_CHECK(parameter.tensor.dim() > 0 && rows.numel() == parameter.tensor.size(0),
               "parameter '", parameter.name, "' of shape ", parameter.tensor.sizes(), " owns ",
               rows.numel(), " rows, wanted as many as it has");
  ISOBAR_CHECK(
      rows.numel() == 0 || (rows.min().item<int64_t>() >= 0 && rows.max().item<int64_t>() < total),
      "parameter '", parameter.name, "' owns a row that is not one of ", total);
}

/// How often each row is owned in this rank's group, over all sharded parameters one after another.
at::Tensor count_owners(const std::vector<std::pair<std::string, ShardedRows>>& sharded,
                        const ProcessGrid& grid) {
  int64_t total = 0;
  for (const auto& [name, own] : sharded) total += own.total;
  auto owners = at::zeros({total}, at::kInt);
  int64_t first = 0;
  for (const auto& [name, own] : sharded) {
    owners.narrow(0, first, own.total)
        .index_add_(0, own.rows, at::ones(own.rows.sizes(), at::kInt));
    first += own.total;
  }
  grid.model().allreduce(owners).wait();
  return owners;
}

}  // namespace

void check_sharded_rows(const std::vector<NamedParameter>& parameters, const RowsOf& rows_of,
                        const ProcessGrid& grid) {
  std::vector<std::pair<std::string, ShardedRows>> sharded;
  std::vector<std::string> totals;
  run_agreed(grid.world(), [&] {
    for (const auto& parameter : parameters) {
      const auto own = rows_of ? rows_of(parameter.name) : std::nullopt;
      check_own(parameter, own, grid.model().size());
      if (!own) continue;
      sharded.emplace_back(parameter.name, *own);
      totals.push_back(detail::join(parameter.name, ": ", own->total));
    }
  });
  require_equal(grid.world(), "number of rows of sharded parameters", totals);
  const auto owners = count_owners(sharded, grid);
  run_agreed(grid.world(), [&] {
    int64_t first = 0;
    for (const auto& [name, own] : sharded) {
      const auto part = owners.narrow(0, first, own.total);
      const auto wrong = part.ne(1).nonzero();
      ISOBAR_CHECK(wrong.numel() == 0, "parameter '", name, "': ", wrong.size(0), " of ", own.total,
                   " rows are owned by no rank of the model-parallel group, or by several; the "
                   "first is row ",
                   wrong[0][0].item<int64_t>(), ", owned by ",
                   part[wrong[0][0].item<int64_t>()].item<int>());
      first += own.total;
    }
  });
}

}  // namespace isobar
