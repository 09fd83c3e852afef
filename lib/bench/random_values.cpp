// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/random_values.hpp>

#include <isobar/core/hash.hpp>
#include <ATen/ops/empty.h>

namespace isobar::bench {

at::Tensor random_values(at::IntArrayRef shape, double bound, uint64_t seed,
                         std::string_view name) {
  auto values = at::empty(shape, at::kFloat);
  float* data = values.mutable_data_ptr<float>();
  const uint64_t state = splitmix64(seed + kSplitmix64Step) ^ fnv1a(name);
  for (int64_t i = 0; i < values.numel(); ++i) {
    const uint64_t bits = splitmix64(state + (static_cast<uint64_t>(i) + 1) * kSplitmix64Step);
    data[i] = static_cast<float>(bound * (static_cast<double>(bits >> 11) * 0x1p-52 - 1.0));
  }
  return values;
}

}  // namespace isobar::bench
