// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <limits>

#include "compress/block_int8_kernels.hpp"

namespace isobar::by_tensors {
namespace {

/// A message of `parts` parts: codes [parts, blocks, block] and scales [parts, blocks, 1].
struct MessageViews {
  at::Tensor codes, scales;
};

MessageViews views_of(const BlockLayout& layout, const at::Tensor& message, int64_t parts) {
  const auto rows = message.view({parts, layout.part_bytes()});
  const auto codes = rows.narrow(1, 0, layout.part_values()).view(at::kChar);
  const auto scales = rows.narrow(1, layout.part_values(), 4 * layout.blocks).view(at::kFloat);
  return {codes.unflatten(1, {layout.blocks, layout.block}), scales.unsqueeze(2)};
}

/// Quantises w [parts, blocks, block] and returns what that leaves out; `kept` in blocks that are
/// not finite.
at::Tensor quantise_blocks(const at::Tensor& w, const at::Tensor& kept, const MessageViews& to) {
  using Limits = std::numeric_limits<float>;
  auto scales = w.abs().amax(2, /*keepdim=*/true).div(127).to(at::kFloat);
  scales = scales.masked_fill(scales < Limits::min(), 0);
  const auto is_finite = scales <= Limits::max();
  to.scales.copy_(scales.masked_fill(is_finite.logical_not(), Limits::quiet_NaN()));
  const auto steps = scales.masked_fill(is_finite.logical_not(), 0).to(w.scalar_type());
  const auto inverses = at::where(steps > 0, steps.reciprocal(), 0);
  const auto codes = at::where(is_finite, w.mul(inverses).round(), 0);
  to.codes.copy_(codes);
  return at::where(is_finite, w.sub(codes.mul(steps)), kept);
}

/// The tensor, filled up with zeros to `length` values.
at::Tensor padded(const at::Tensor& tensor, int64_t length) {
  return at::constant_pad_nd(tensor, {0, length - tensor.numel()});
}

}  // namespace

void quantise(const BlockLayout& layout, const at::Tensor& values, const at::Tensor& residual,
              const at::Tensor& message) {
  const std::array<int64_t, 3> shape = {layout.parts, layout.blocks, layout.block};
  const auto before = padded(residual, layout.parts * layout.part_values()).view(shape);
  const auto gradient = padded(values.to(residual.scalar_type()), before.numel()).view(shape);
  const auto rest =
      quantise_blocks(gradient.add(before), before, views_of(layout, message, layout.parts));
  residual.copy_(rest.flatten().narrow(0, 0, layout.values));
}

void quantise_sum(const BlockLayout& layout, int64_t rank, const at::Tensor& received,
                  const at::Tensor& sum, const at::Tensor& residual, const at::Tensor& own) {
  const auto from = views_of(layout, received, layout.parts);
  const auto total = sum.view({1, layout.blocks, layout.block});
  total.zero_();
  for (int64_t r = 0; r < layout.parts; ++r) {
    total[0].add_(from.codes[r].to(sum.scalar_type()).mul(from.scales[r].to(sum.scalar_type())));
  }
  const auto rest = quantise_blocks(total, at::zeros_like(total), views_of(layout, own, 1));
  const int64_t first = std::min(layout.values, rank * layout.part_values());
  const int64_t count = std::min(layout.values - first, layout.part_values());
  residual.narrow(0, first, count).add_(rest.flatten().narrow(0, 0, count));
}

void dequantise(const BlockLayout& layout, const at::Tensor& message, double divisor,
                const at::Tensor& values) {
  const auto from = views_of(layout, message, layout.parts);
  const auto type = values.element_size() == 2 ? at::kFloat : values.scalar_type();
  const auto all = from.codes.to(type).mul(from.scales.to(type).div(divisor));
  values.copy_(all.flatten().narrow(0, 0, layout.values));
}

}  // namespace isobar::by_tensors
