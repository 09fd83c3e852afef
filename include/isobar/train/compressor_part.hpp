// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/ddp/compressor.hpp>
#include <isobar/ddp/reducer.hpp>
#include <isobar/train/sharded_rows.hpp>
#include <isobar/train/state.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// What a compressor remembers, as a part of a checkpoint: residuals, factors, counts.
///
/// One rank saves for all, so the ranks make their states one before it does:
///
///     CompressorPart part(compressor, parallel.reducer(), grid);
///     part.collect();                          // every rank
///     if (grid.world().rank() == 0) save_checkpoint(folder, step, {&weights, &optimizer, &part});
///
/// and to go on, once DataParallel has the compressor, on every rank
///
///     load_checkpoint(path, {&weights, &optimizer, &part});
///
/// The ranks, however many, all start with the mean of the residuals that there were. An update
/// takes the mean over ranks of gradient and residual, so what updates left out so far comes
/// back whole, whatever the number of ranks before and after. (A single replica compresses
/// nothing, and keeps it for when there are several again.)
///
/// Where several ranks share a model, each holds the residuals of its share of the gradients.
/// The shares are put together when they are saved, and cut as the loading ranks need them;
/// the factors of each are left out and start anew. What is saved of rows that are not
/// compressed where it is loaded, such as one that the edge of a share cuts, is dropped. Of a
/// parameter whose rows are sharded, the rows are gathered as ShardedPart gathers the weights'.
///
/// Once collected, holds a copy of the state, as large as the gradients, while it lives.
class CompressorPart final : public Stateful {
 public:
  /// The compressor is the reducer's. Reducer and grid must outlive this. Throws UsageError for a
  /// parameter that is sharded over several ranks of which `rows_of` does not say which rows a rank
  /// owns (Task::rows): its residual would be one shard's.
  CompressorPart(std::shared_ptr<Compressor> compressor, const Reducer& reducer,
                 const ProcessGrid& grid, RowsOf rows_of = nullptr);

  /// Averages the residuals (see average_residuals), which changes how training goes on by
  /// rounding alone, and takes the state to save. Between steps; collective; blocks.
  void collect();

  std::string name() const override { return "compressor"; }
  int version() const override { return 1; }

  /// Throws UsageError before the first collect().
  void save(StateDict& state) const override;
  void load(const StateDict& state, int version) override;

 private:
  const std::vector<NamedParameter>& parameters() const { return reducer_.parameters(); }
  std::optional<ShardedRows> rows_of(const NamedParameter& parameter) const;
  at::Tensor joined_residual(const CompressorState& share, const NamedParameter& parameter,
                             int64_t columns) const;
  at::Tensor columns_of(const CompressorState& state) const;
  CompressorState joined(const CompressorState& share) const;
  void cut(CompressorState& saved) const;
  double unit(const NamedParameter& parameter) const;

  std::shared_ptr<Compressor> compressor_;
  const Reducer& reducer_;
  const ProcessGrid& grid_;
  RowsOf rows_of_;
  std::optional<CompressorState> collected_;
};

}  // namespace isobar
