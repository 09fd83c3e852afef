// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>

#include "comm/nccl/communicator.hpp"

namespace isobar {
namespace {

[[noreturn]] void refuse_nccl() {
  throw UsageError(
      "backend nccl: isobar was built without NCCL; configure it with -DISOBAR_GPU=cuda or rocm "
      "(presets of these names), or choose backend mpi or gloo");
}

}  // namespace

std::vector<char> make_nccl_unique_id() { refuse_nccl(); }

std::unique_ptr<Communicator> make_nccl_communicator(const NcclOptions&,
                                                     std::shared_ptr<FirstCause>) {
  refuse_nccl();
}

std::string nccl_library_version() { return {}; }

}  // namespace isobar
