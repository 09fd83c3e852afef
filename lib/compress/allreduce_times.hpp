// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/step_model.hpp>

#include <cstdint>
#include <functional>

namespace isobar {

/// What fits `seconds_of(bytes)`, which is asked for 4 KiB to 4 MiB, and for up to 64 MiB while no
/// line that rises fits: on a busy machine what is sent is lost in what ranks wait for each other.
/// Where none fits in the end, the smallest's whole time is the latency and the largest's whole
/// time gives the rate; neither is too good.
AllreduceCost cost_of_allreduces(const std::function<double(int64_t bytes)>& seconds_of, int ranks);

}  // namespace isobar
