// SPDX-License-Identifier: Apache-2.0
// NCCL on NVIDIA's devices, RCCL on AMD's: the same functions by the same names. LibTorch for ROCm
// goes by CUDA's device type too; only the type of its raw stream has another name.
#pragma once

#if defined(USE_ROCM) || defined(__HIP_PLATFORM_AMD__)
#include <c10/hip/HIPStream.h>
#include <rccl/rccl.h>
#else
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>
#endif

namespace isobar::nccl {

#if defined(USE_ROCM) || defined(__HIP_PLATFORM_AMD__)
inline constexpr const char* kBackend = "rccl";
inline constexpr const char* kLibrary = "RCCL";
using RawStream = hipStream_t;
inline RawStream raw_stream(const c10::Stream& stream) {
  return c10::hip::HIPStream(stream).stream();
}
#else
inline constexpr const char* kBackend = "nccl";
inline constexpr const char* kLibrary = "NCCL";
using RawStream = cudaStream_t;
inline RawStream raw_stream(const c10::Stream& stream) {
  return c10::cuda::CUDAStream(stream).stream();
}
#endif

}  // namespace isobar::nccl
