// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/gradient_buffers.hpp"

#include <isobar/ddp/compressor.hpp>

#include <vector>

namespace isobar {

/// A bucket's slice of its flat buffer, complex numbers as pairs.
at::Tensor real_values(const at::Tensor& gradients);

/// Where the bucket's parameters lie in its real_values().
std::vector<PieceSlot> piece_slots(const std::vector<NamedParameter>& parameters,
                                   const Bucket& bucket, const GradientBuffers& buffers);

/// The slots, as far as they lie in the elements from `begin` to `end`, counted from there.
std::vector<PieceSlot> cut(const std::vector<PieceSlot>& slots, int64_t begin, int64_t end);

}  // namespace isobar
