// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <memory>

#include "comm/backend/first_cause.hpp"
#include "comm/backend/watch.hpp"

namespace isobar {

/// What backends may do to a communicator that they did not define.
struct BackendAccess {
  /// Reports what `comm` issues from now on.
  static void set_watch(Communicator& comm, std::unique_ptr<Watch> watch);

  /// Starts an operation that has been checked elsewhere, on a communicator of the same
  /// ranks. Its number is that of `comm`.
  static Work start(Communicator& comm, Operation operation);

  /// The same under the number that `operation` has, so that a communicator and the one
  /// that carries out its operations speak of them by one number.
  static Work forward(Communicator& comm, Operation operation);

  /// What `carrier` exchanged by itself, for a split, has numbers in `comm` too, and is
  /// reported as barriers.
  static void catch_up(Communicator& comm, const Communicator& carrier);

  /// The one of `comm` and of all that are split from its world.
  static const std::shared_ptr<FirstCause>& first_cause(const Communicator& comm);
};

/// Does `operation` for a communicator of one rank; its Work is complete. On a
/// GPU the copies are ordered on the current stream.
Work complete_alone(const Operation& operation);

/// Which rank this one is, and of how many, in a communicator that split() makes.
struct RankAndSize {
  int rank = 0;
  int size = 0;
};

/// Tells all ranks of `comm` the others' color and key. Collective; blocks.
RankAndSize agree_on_split(Communicator& comm, int color, int key);

}  // namespace isobar
