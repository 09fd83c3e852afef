// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>

#include "comm/devices/api.hpp"

namespace isobar {

std::shared_ptr<const StagingApi> staging_api() {
  throw UsageError(
      "device cuda: isobar was built without CUDA; configure it with -DISOBAR_CUDA=ON (preset "
      "cuda), or choose device cpu");
}

}  // namespace isobar
