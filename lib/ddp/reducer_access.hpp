// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/grad_hook.hpp"

#include <isobar/ddp/reducer.hpp>

#include <memory>

namespace isobar {

/// What wrappers and optimizers may know of a reducer.
struct ReducerAccess {
  static const std::shared_ptr<GradOwner>& owner(const Reducer& reducer);

  /// True from the first gradient outside of accumulate() until finish() has ended the step or
  /// the reducer's zero_grad() has thrown it away, whether anything was sent or not.
  static bool is_under_way(const Reducer& reducer);
};

}  // namespace isobar
