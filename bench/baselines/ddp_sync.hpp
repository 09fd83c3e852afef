// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/step_sync.hpp>
#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <memory>

namespace c10d {
class ProcessGroup;
}

namespace isobar::bench {

struct DdpSyncOptions {
  int64_t bucket_cap_bytes = 0;
  int64_t first_bucket_cap_bytes = 0;
};

/// PyTorch's own reducer, used as DistributedDataParallel uses it by default, with
/// gradient_as_bucket_view: one bucket in the first step, then buckets in the order in
/// which gradients arrived. Its collectives are waited for inside the backward pass;
/// what follows the last gradient there counts as exposed.
std::unique_ptr<StepSync> make_ddp_sync(torch::nn::Module& module,
                                        const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                                        const DdpSyncOptions& options);

}  // namespace isobar::bench
