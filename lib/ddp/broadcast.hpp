// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <vector>

namespace isobar {

/// Copies the root's tensors into everyone's, tensors of one type and device
/// packed into messages of up to 64 MiB. Collective; blocks. All ranks pass the
/// same shapes and types (describe_layout()) in the same order, and none that has an
/// obstacle_to_copying(). Each message carries `mark`.
void broadcast_coalesced(Communicator& comm, const std::vector<at::Tensor>& tensors, int root,
                         const BucketMark& mark = {});

}  // namespace isobar
