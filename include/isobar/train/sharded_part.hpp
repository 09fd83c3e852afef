// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/train/sharded_rows.hpp>
#include <isobar/train/state.hpp>

#include <optional>
#include <string>

namespace isobar {

/// A part of a checkpoint that holds tensors of parameters (weights, their average, an
/// optimizer's state), saved whole where a model-parallel group shares their rows.
///
/// What is saved has all rows in their order, as if the model had been on one rank, and is
/// loaded on any number of ranks, each of which takes the rows that it owns:
///
///     ShardedPart whole(weights, task.rows, grid);
///     whole.collect();                                          // every rank
///     if (grid.world().rank() == 0) save_checkpoint(folder, step, {&whole});
///
///     load_checkpoint(path, {&whole});                          // every rank, no collect()
///
/// A tensor belongs to a parameter if its key is the parameter's name, or that name, a dot and
/// one word ("encoder_table.exp_avg"). All others are saved and loaded as they are.
class ShardedPart final : public Stateful {
 public:
  /// Name and version are the part's. `rows_of` may be empty: nothing is sharded then, and
  /// collect() may be left out. Part and grid must outlive this.
  ShardedPart(Stateful& part, RowsOf rows_of, const ProcessGrid& grid);

  /// Takes the part's state to save; of sharded tensors the first replica's, copied on the
  /// CPU to rank 0 of the world. Between steps; collective; blocks.
  void collect();

  std::string name() const override { return part_.name(); }
  int version() const override { return part_.version(); }

  /// Throws UsageError where rows are sharded, before collect() and on other ranks than the
  /// world's first.
  void save(StateDict& state) const override;

  /// Throws DataError where a saved tensor has not as many rows as all ranks together.
  void load(const StateDict& state, int version) override;

 private:
  std::optional<ShardedRows> rows_of(const std::string& key) const;

  Stateful& part_;
  RowsOf rows_of_;
  const ProcessGrid& grid_;
  std::optional<StateDict> collected_;
};

}  // namespace isobar
