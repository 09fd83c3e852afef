// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "model/message_pass.hpp"

namespace isobar {

/// Messages [B, E, C] (undefined unless wanted) and their sums [B, N, C]. Differentiable once.
/// `exchange` may be null: all sources are own.
GraphConv::Result edge_messages(const MessageInputs& inputs,
                                const std::shared_ptr<const EdgeIndex>& index,
                                const std::shared_ptr<HaloExchange>& exchange,
                                const MessageOptions& options);

}  // namespace isobar
