// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <memory>

namespace isobar::test {

/// Takes CPU tensors and carries everything out on the GPU by `inner`, so that the
/// scenarios that every backend must pass run on a GPU's as they are.
std::unique_ptr<Communicator> staged(std::unique_ptr<Communicator> inner, int device_index);

}  // namespace isobar::test
