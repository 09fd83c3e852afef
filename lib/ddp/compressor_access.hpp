// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/grad_hook.hpp"

#include <isobar/ddp/compressor.hpp>

#include <memory>
#include <string>

namespace isobar {

/// Who uses a compressor: it remembers one reducer's gradients.
struct CompressorAccess {
  /// Gives the compressor to `user`, and throws UsageError where another one that is alive, and
  /// not replaced, has it. Ranks may be threads.
  static void claim(Compressor& compressor, const std::shared_ptr<const GradOwner>& user);

  static bool serves(const Compressor& compressor, const std::shared_ptr<const GradOwner>& user);
};

}  // namespace isobar
