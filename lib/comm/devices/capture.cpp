// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>

#include "comm/devices/api.hpp"

namespace isobar {

void check_not_capturing(const DeviceApi& api, int device, const std::string& operation) {
  ISOBAR_CHECK(!api.is_capturing(device, api.current_stream(device)), operation,
               ": the current stream captures a CUDA graph, which a collective cannot go into; "
               "capture computation alone, and start collectives after the capture has ended");
}

}  // namespace isobar
