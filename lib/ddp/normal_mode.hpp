// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <optional>

namespace isobar {

/// Leaves the caller's c10::InferenceMode, if there is one, while it lives: tensors made there
/// could not be trained. Autograd stays off.
class NormalMode {
 public:
  NormalMode() {
    if (!c10::InferenceMode::is_enabled()) return;
    mode_.emplace(false);
    no_grad_.emplace();
  }

 private:
  std::optional<c10::InferenceMode> mode_;
  std::optional<c10::NoGradGuard> no_grad_;
};

}  // namespace isobar
