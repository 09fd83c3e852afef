// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace isobar {

/// Whether two texts of a file's `units` are the same unit as far as their spelling goes: "m
/// s**-1", "m/s" and "m s-1", "kelvin" and "K". Units that are multiples of each other are not the
/// same.
bool same_units(const std::string& a, const std::string& b);

}  // namespace isobar
