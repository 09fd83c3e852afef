// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <memory>

namespace isobar {

/// One communicator of two of the same ranks, with one first cause: CPU tensors and
/// barriers go over `cpu`, all other tensors over `device`. Each side starts its
/// operations in the order of the calls; between the two there is no order but the
/// waits. Splits split both. What ranks exchange lies on the CPU on all of them or on none.
std::unique_ptr<Communicator> make_by_device_communicator(std::unique_ptr<Communicator> cpu,
                                                          std::unique_ptr<Communicator> device);

}  // namespace isobar
