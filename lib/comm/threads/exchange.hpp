// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <vector>

namespace isobar {

/// Carries out one operation for all who take part in it: `parts[r]` is rank r's
/// call of a collective, with equal signatures; or the two parts are a send and
/// the receive that matches it. Values are combined in the order of ranks.
/// Throws CommError where the ranks disagree on the rows of an all_to_all, or
/// on the type or size of a message.
void exchange(const std::vector<Operation>& parts);

}  // namespace isobar
