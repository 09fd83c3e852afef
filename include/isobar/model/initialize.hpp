// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>

#include <cstdint>

namespace isobar {

/// Sets every parameter of `module` to a value that depends on the seed, the
/// parameter's name in the module and the position in it, and on nothing else:
/// not on the order of modules, other parameters, threads, device, or any
/// generator's state. float32 weights are the float64 ones, rounded.
///
/// A module's `weight` of two or more dimensions and the `bias` beside it are
/// uniform in [-b, b) with b = 1 / sqrt(fan_in), PyTorch's default for Linear
/// and convolutions (fan_in: values of weight for one output). A `weight` of
/// one dimension, a norm's, is 1 and its bias 0. Names that end in `_table` get
/// 0, so that training starts as if there were no table.
///
/// Values: uniform in [0, 1) by splitmix64 (Steele, Lea, Flood 2014) with the
/// state splitmix64(seed) xor FNV-1a(name), advanced to the position; the upper
/// 53 bits are taken.
///
/// Throws UsageError naming a parameter that none of this covers.
void initialize_parameters(torch::nn::Module& module, uint64_t seed);

}  // namespace isobar
