// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <memory>

namespace isobar {

/// The ranks of a world as a grid of model-parallel × data-parallel.
///
/// World rank w belongs to replica w / M and is member w % M of its model, with
/// M ranks a model: a model-parallel group is M neighbouring ranks (the GPUs of
/// one node), a data-parallel group the ranks of equal w % M.
///
/// Example, 4 ranks, M = 2: model groups {0,1} {2,3}, data groups {0,2} {1,3}.
class ProcessGrid {
 public:
  /// Collective over `world`, which must outlive the grid; blocks. `model_size`
  /// must divide the world's size.
  ProcessGrid(Communicator& world, int model_size);

  Communicator& world() const noexcept { return world_; }
  /// The ranks that share one replica of the model.
  Communicator& model() const noexcept { return *model_; }
  /// The ranks that hold the same part of the model, one a replica.
  Communicator& data() const noexcept { return *data_; }

  int replicas() const noexcept { return data_->size(); }

 private:
  Communicator& world_;
  std::unique_ptr<Communicator> model_;
  std::unique_ptr<Communicator> data_;
};

}  // namespace isobar
