// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>

#include "comm/gloo/communicator.hpp"

namespace isobar {
namespace {

[[noreturn]] void refuse_gloo() {
  throw UsageError(
      "backend gloo: isobar was built without Gloo's headers (libgloo-dev); install them and build "
      "again, or choose another backend");
}

}  // namespace

std::unique_ptr<Communicator> make_gloo_communicator(const GlooOptions&) { refuse_gloo(); }

bool has_gloo() noexcept { return false; }

}  // namespace isobar
