// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/gradient_norm.hpp>

#include <isobar/comm/census.hpp>
#include <isobar/core/error.hpp>

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace isobar {
namespace {

/// Values that one thread adds up. Fixed, so that rounding does not depend on their number.
constexpr int64_t kNormChunk = 64 * 1024;

std::vector<at::Tensor> gradients_of(const std::vector<NamedParameter>& parameters) {
  std::vector<at::Tensor> result;
  for (const auto& parameter : parameters) {
    if (parameter.tensor.grad().defined()) result.push_back(parameter.tensor.grad());
  }
  return result;
}

/// In double, in eight lanes that the compiler can put into vector registers.
template <typename T>
double sum_of_squares(const T* values, int64_t count) {
  std::array<double, 8> lanes{};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      const auto value = static_cast<double>(values[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (; i < count; ++i) {
    const auto value = static_cast<double>(values[i]);
    lanes[i % 8] += value * value;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

/// `partial` is scratch memory, which a step's parameters share.
double sum_of_squares_on_cpu(const at::Tensor& gradient, std::vector<double>& partial) {
  const auto dense = gradient.is_non_overlapping_and_dense() ? gradient : gradient.contiguous();
  const int64_t count = dense.is_complex() ? 2 * dense.numel() : dense.numel();
  const int64_t chunks = (count + kNormChunk - 1) / kNormChunk;
  partial.assign(chunks, 0);
  const auto type = c10::toRealValueType(dense.scalar_type());
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, "gradient_norm", [&] {
    const auto* values = static_cast<const scalar_t*>(dense.const_data_ptr());
    at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        const int64_t from = c * kNormChunk;
        partial[c] = sum_of_squares(values + from, std::min(kNormChunk, count - from));
      }
    });
  });
  double sum = 0;
  for (const double value : partial) sum += value;
  return sum;
}

double sum_of_squares(const std::vector<NamedParameter>& parameters, bool sharded) {
  double sum = 0;
  std::vector<double> partial;
  std::vector<at::Tensor> on_device;
  for (const auto& parameter : parameters) {
    const auto& gradient = parameter.tensor.grad();
    if (!gradient.defined() || sharded != (parameter.reduction == Reduction::sharded)) continue;
    if (gradient.is_cpu()) {
      sum += sum_of_squares_on_cpu(gradient.detach(), partial);
    } else {
      on_device.push_back(gradient);
    }
  }
  if (on_device.empty()) return sum;
  // One transfer from the device for all parameters, not one each.
  const auto norms = at::stack(at::_foreach_norm(on_device, 2, at::kDouble));
  return sum + norms.square().sum().item<double>();
}

/// Looks for the culprit only now: a pass over all gradients that nobody pays for otherwise.
[[noreturn]] void refuse_norm(const std::vector<NamedParameter>& parameters, double norm) {
  std::string where =
      "all values of this rank are finite, so that another has the culprit or squares are too "
      "large";
  for (const auto& parameter : parameters) {
    const auto& gradient = parameter.tensor.grad();
    if (!gradient.defined()) continue;
    const auto count = gradient.numel() - at::isfinite(gradient).sum().item<int64_t>();
    if (count == 0) continue;
    where = detail::join("the gradient of '", parameter.name, "' has ", count, " of ",
                         gradient.numel(), " values that are not finite");
    break;
  }
  throw DataError(detail::join("clip_by_norm: the gradients' norm is ", norm, ": ", where,
                               "; leave the step out on every rank, or find what makes them"));
}

}  // namespace

// After finish() all ranks hold the same gradients of what is not sharded, and sum their squares
// alike: only the owners' sums of sharded ones travel, inside a model, while the others are summed.
double gradient_norm(const std::vector<NamedParameter>& parameters, const ProcessGrid& grid) {
  c10::NoGradGuard no_grad;
  const CollectiveAsker asker("norm");
  auto owned = at::full({1}, sum_of_squares(parameters, /*sharded=*/true), at::kDouble);
  auto total = grid.model().allreduce(owned);
  const double shared = sum_of_squares(parameters, /*sharded=*/false);
  total.synchronize();
  return std::sqrt(shared + owned.item<double>());
}

void clip_by_norm(const std::vector<NamedParameter>& parameters, double norm, double max_norm,
                  NonFinite non_finite) {
  if (non_finite == NonFinite::refused && !std::isfinite(norm)) refuse_norm(parameters, norm);
  const auto gradients = gradients_of(parameters);
  if (!(norm > max_norm) || gradients.empty()) return;
  c10::NoGradGuard no_grad;
  at::_foreach_mul_(gradients, max_norm / (norm + 1e-6));
}

void clip_by_value(const std::vector<NamedParameter>& parameters, double limit) {
  c10::NoGradGuard no_grad;
  const auto gradients = gradients_of(parameters);
  if (gradients.empty()) return;
  at::_foreach_clamp_min_(gradients, -limit);
  at::_foreach_clamp_max_(gradients, limit);
}

}  // namespace isobar
