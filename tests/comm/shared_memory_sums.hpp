// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

namespace isobar::test {

/// Reductions of all types at sizes around every switch of algorithm and every
/// boundary of a piece equal the threads backend's, to the bit.
void expect_bits_of_threads(Communicator& comm);

/// all_gather, broadcast and all_to_all of more than one piece.
void expect_large_moves(Communicator& comm);

}  // namespace isobar::test
