// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/samples.hpp>

#include <cstdint>

namespace isobar {

/// Samples that a period has, and that it would have if the data had all their hours.
struct SampleUse {
  int64_t used = 0;
  int64_t whole = 0;
};

/// Of a set that was made for `period`. The analyses that would be there are those at the data's
/// usual step (Dataset::usual_step); where there is none, those used.
SampleUse sample_use(const SampleSet& samples, const Period& period);

}  // namespace isobar
