// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/compressor.hpp>

#include <cstdint>
#include <memory>

namespace isobar {

/// The 16-bit floats: bfloat16 has float32's range and 8 significant bits, float16 has 11 and
/// ends at 65504.
enum class HalfType { bfloat16, float16 };

struct HalfPrecisionOptions {
  HalfType type = HalfType::bfloat16;
  /// Steps that are not compressed, from the first on.
  int64_t start_step = 0;
};

/// Sends gradients as 16-bit floats: half the bytes of float32, a quarter of float64's; over NCCL
/// on more than 64 ranks, which sums them in 32 bits, as many as float32. One allreduce a bucket,
/// summed and divided in float32.
///
/// Each rank's value is rounded to nearest, and the mean once more. A reduced value x̄ is off by
/// no more than u (1 + u) (mean |x| + |x̄|), where u is 2⁻⁸ for bfloat16 and 2⁻¹¹ for float16.
/// There is no residual: what a step rounds off is not sent later. Rounding errs to either
/// side alike, and a bfloat16 keeps the sign and size of any gradient.
///
/// Dividing before the sum, as PyTorch's hook does, loses small gradients in large worlds; after
/// it, a float16 overflows where gradients are large and alike. Here neither happens: whatever a
/// float16 holds of each rank, up to 65504, it holds of their mean, and a value keeps its 11 bits
/// from 6.1e-5 on, below which it is off by up to 3e-8. Overflow becomes infinite on every rank,
/// as does what was infinite; NaN stays NaN.
///
/// Gradients that are 16-bit floats already, of either type, travel as they are, to the bits
/// that they have without a compressor. Otherwise takes two bytes of memory a value. Throws
/// UsageError for a negative step.
std::shared_ptr<Compressor> make_half_precision(const HalfPrecisionOptions& options = {});

}  // namespace isobar
