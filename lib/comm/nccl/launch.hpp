// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <vector>

#include "comm/nccl/link.hpp"

namespace isobar {

/// Puts a collective on the link's stream. Blocks until NCCL has taken all of it, which
/// may be as long as another rank is away. Tensors made for it are added to `scratch` and
/// are in use until the stream has passed. Throws CommError with NCCL's words.
void launch(const Operation& operation, NcclLink& link, std::vector<at::Tensor>& scratch);

}  // namespace isobar
