// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>

#include "comm/devices/api.hpp"

namespace isobar {

std::shared_ptr<const StagingApi> staging_api() {
  throw UsageError(
      "device cuda: isobar was built without GPUs; configure it with -DISOBAR_GPU=cuda or rocm "
      "(presets of these names), or choose device cpu");
}

}  // namespace isobar
