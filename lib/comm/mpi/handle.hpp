// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <chrono>
#include <memory>

namespace isobar {

class MpiFamily;
class MpiRuntime;

/// A communicator of MPI's and this rank's place in it.
struct MpiHandle {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  /// All ranks are on one.
  bool one_node = true;
};

/// A copy of MPI_COMM_WORLD, so that no other library's messages meet ours.
/// Collective; blocks. Throws CommError.
MpiHandle duplicate_world(MpiRuntime& runtime, const std::shared_ptr<MpiFamily>& family,
                          std::chrono::milliseconds timeout);

/// MPI_Comm_split of `parent`; a negative color gives MPI_COMM_NULL. Collective;
/// blocks: the ranks have met just before. Throws CommError.
MpiHandle split_handle(MpiRuntime& runtime, std::shared_ptr<MPI_Comm> parent, int color, int key,
                       const std::shared_ptr<MpiFamily>& family, std::chrono::milliseconds timeout);

}  // namespace isobar
