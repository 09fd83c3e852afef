// SPDX-License-Identifier: Apache-2.0
// In place of plotly.min.js, where CMake did not find it.
#include "report/embedded.hpp"

namespace isobar {

std::string_view plotly_script() { return {}; }

}  // namespace isobar
