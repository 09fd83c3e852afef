// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/step_check.hpp>

#include <isobar/bench/measure.hpp>
#include <isobar/core/hash.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>

namespace isobar::bench {
namespace {

/// Below the smallest normal float, rounding is absolute.
constexpr double kSmallest = std::numeric_limits<float>::min();

double finite_maximum(const at::Tensor& values) {
  if (values.numel() == 0) return 0;
  const double largest = values.max().item<double>();
  return std::isfinite(largest) ? largest : std::numeric_limits<double>::max();
}

/// Every rank's values, [ranks, values].
at::Tensor gather(Subject& ranks, const at::Tensor& own) {
  auto all = at::empty({ranks.size() * own.numel()}, own.options());
  ranks.start({{.input = own, .output = all}});
  ranks.wait();
  return all.view({ranks.size(), own.numel()});
}

Deviation deviation(const at::Tensor& got, const at::Tensor& parts, const SyncLoss& loss) {
  const auto wanted = parts.to(at::kDouble).mean(0);
  const auto sizes = parts.to(at::kDouble).abs().mean(0);
  double lost = loss.absolute;
  if (loss.of_largest > 0) lost += loss.of_largest * finite_maximum(sizes);
  const auto rounding = static_cast<double>(parts.size(0)) * 0x1p-23 * sizes + (kSmallest + lost);
  const auto off = (got.to(at::kDouble) - wanted).abs();
  const auto right = at::logical_and(off <= rounding, at::isfinite(off));
  return {.largest = finite_maximum(off),
          .beyond_rounding = finite_maximum(at::where(right, at::zeros_like(off), off))};
}

template <typename Parts>
Deviation compare(Subject& ranks, const std::vector<at::Tensor>& got,
                  const std::vector<at::Tensor>& own, const SyncLoss& loss, const Parts& parts_of) {
  std::vector<double> largest{0, 0};
  for (size_t i = 0; i < own.size(); ++i) {
    const auto found = deviation(got[i], parts_of(own[i]), loss);
    largest[0] = std::max(largest[0], found.largest);
    largest[1] = std::max(largest[1], found.beyond_rounding);
  }
  largest = largest_over_ranks(ranks, largest);
  return {.largest = largest[0], .beyond_rounding = largest[1]};
}

}  // namespace

std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> copies;
  for (const auto& parameter : parameters) {
    const auto& gradient = parameter.grad();
    copies.push_back(gradient.defined() ? gradient.detach().flatten().clone()
                                        : at::zeros({parameter.numel()}, parameter.options()));
  }
  return copies;
}

Deviation deviation_from_mean(Subject& ranks, const std::vector<at::Tensor>& got,
                              const std::vector<at::Tensor>& own, const SyncLoss& loss) {
  return compare(ranks, got, own, loss,
                 [&](const at::Tensor& flat) { return gather(ranks, flat); });
}

Deviation deviation_from_own(Subject& ranks, const std::vector<at::Tensor>& got,
                             const std::vector<at::Tensor>& own) {
  return compare(ranks, got, own, {}, [](const at::Tensor& flat) { return flat.unsqueeze(0); });
}

bool same_on_all_ranks(Subject& ranks, const std::vector<at::Tensor>& tensors) {
  std::string hashes;
  for (const auto& tensor : tensors) {
    const auto values = tensor.detach().cpu().contiguous();
    const std::string_view bits(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
    hashes += std::to_string(fnv1a(bits)) + " ";
  }
  const auto all = ranks.gather(hashes);
  return std::set<std::string>(all.begin(), all.end()).size() == 1;
}

}  // namespace isobar::bench
