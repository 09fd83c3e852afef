// SPDX-License-Identifier: Apache-2.0
// NCCL on NVIDIA's devices, RCCL on AMD's: the same functions by the same names. LibTorch for ROCm
// goes by CUDA's device type too; only the type of its raw stream has another name. The build says
// which it is by __HIP_PLATFORM_AMD__, which HIP's own headers ask for.
#pragma once

#include <c10/core/Stream.h>

#if defined(__HIP_PLATFORM_AMD__)
#include <rccl/rccl.h>
#else
#include <nccl.h>
#endif

namespace isobar::nccl {

#if defined(__HIP_PLATFORM_AMD__)
inline constexpr const char* kBackend = "rccl";
inline constexpr const char* kLibrary = "RCCL";
using RawStream = hipStream_t;
#else
inline constexpr const char* kBackend = "nccl";
inline constexpr const char* kLibrary = "NCCL";
using RawStream = cudaStream_t;
#endif

/// By LibTorch's device-neutral call, so that none of its headers of one kind of GPU is needed:
/// those for ROCm have had other names in each release.
inline RawStream raw_stream(const c10::Stream& stream) {
  return static_cast<RawStream>(stream.native_handle());
}

}  // namespace isobar::nccl
