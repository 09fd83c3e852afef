// SPDX-License-Identifier: Apache-2.0
#include "ddp/bucket_pieces.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace isobar {
namespace {

int64_t real_elements(const at::Tensor& tensor) {
  return tensor.is_complex() ? 2 * tensor.numel() : tensor.numel();
}

/// Elements of one entry of the dimension that is outermost in memory.
int64_t matrix_columns(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return 1;
  int64_t outermost = 1, stride = -1;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    // Of strides alike, as those of dimensions of one entry, the first.
    if (tensor.size(d) == 1 || !keeps_strides(tensor) || tensor.stride(d) <= stride) continue;
    outermost = tensor.size(d);
    stride = tensor.stride(d);
  }
  if (!keeps_strides(tensor)) outermost = tensor.size(0);
  return real_elements(tensor) / outermost;
}

}  // namespace

at::Tensor real_values(const at::Tensor& gradients) {
  return gradients.is_complex() ? at::view_as_real(gradients).view({-1}) : gradients;
}

std::vector<PieceSlot> piece_slots(const std::vector<NamedParameter>& parameters,
                                   const Bucket& bucket, const GradientBuffers& buffers) {
  std::vector<PieceSlot> slots;
  for (const int64_t p : bucket.parameters) {
    const auto& tensor = parameters[p].tensor;
    const int64_t width = tensor.is_complex() ? 2 : 1;
    slots.push_back({.parameter = p,
                     .offset = width * buffers.offset(p),
                     .first = 0,
                     .elements = real_elements(tensor),
                     .columns = matrix_columns(tensor)});
  }
  return slots;
}

std::vector<BucketPiece> make_pieces(const std::vector<NamedParameter>& parameters,
                                     const BucketPlan& plan, double divisor) {
  const GradientBuffers buffers(parameters, plan);
  std::vector<BucketPiece> pieces;
  for (size_t b = 0; b < plan.size(); ++b) {
    pieces.push_back({real_values(buffers.bucket(static_cast<int64_t>(b))),
                      piece_slots(parameters, plan[b], buffers), divisor});
  }
  return pieces;
}

std::vector<PieceSlot> cut(const std::vector<PieceSlot>& slots, int64_t begin, int64_t end) {
  std::vector<PieceSlot> inside;
  for (auto slot : slots) {
    const int64_t from = std::max(slot.offset, begin);
    const int64_t to = std::min(slot.offset + slot.elements, end);
    if (from >= to) continue;
    slot.first = from - slot.offset;
    slot.offset = from - begin;
    slot.elements = to - from;
    inside.push_back(slot);
  }
  return inside;
}

}  // namespace isobar
