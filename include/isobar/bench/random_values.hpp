// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace isobar::bench {

/// float32 values, uniform in [-bound, bound), that depend on the seed, the name and
/// the position alone, so that another program in another language has the same:
/// splitmix64 with the state splitmix64(seed) xor FNV-1a(name), as
/// isobar::initialize_parameters() has it, made in float64 and rounded once.
at::Tensor random_values(at::IntArrayRef shape, double bound, uint64_t seed, std::string_view name);

}  // namespace isobar::bench
