// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/process_grid.hpp>
#include <isobar/core/error.hpp>

namespace isobar {

ProcessGrid::ProcessGrid(Communicator& world, int model_size) : world_(world) {
  ISOBAR_CHECK(model_size > 0 && world.size() % model_size == 0, "ProcessGrid: a world of ",
               world.size(), " ranks does not divide into models of ", model_size,
               "; choose a model size that divides it");
  const int replica = world.rank() / model_size;
  const int member = world.rank() % model_size;
  model_ = world.split(replica, member);
  data_ = world.split(member, replica);
}

}  // namespace isobar
