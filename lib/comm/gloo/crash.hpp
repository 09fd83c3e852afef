// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace isobar {

/// From now on, and until the returned guard is destroyed, an error that Gloo
/// throws where nobody can catch it stops that thread for good and is reported
/// here, instead of ending the program.
std::shared_ptr<void> catch_gloo_crashes(std::function<void(const std::string& error)> report);

}  // namespace isobar
