// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <isobar/launch/environment.hpp>
#include <ATen/detail/CUDAHooksInterface.h>

namespace isobar {

at::Device rank_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  ISOBAR_CHECK(name == "cuda", "rank_device: no device '", name, "'; choose cpu or cuda");
  const auto& hooks = at::detail::getCUDAHooks();
  ISOBAR_CHECK(hooks.hasCUDA() && hooks.deviceCount() > 0,
               "device: cuda, but no GPU is usable here; `isobar doctor` says what was found");
  const int local_rank = read_launch_environment().local_rank;
  return {at::kCUDA, static_cast<at::DeviceIndex>(local_rank % hooks.deviceCount())};
}

}  // namespace isobar
