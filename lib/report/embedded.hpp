// SPDX-License-Identifier: Apache-2.0
// Files that were there when the library was built (embed.cmake).
#pragma once

#include <string_view>

namespace isobar {

std::string_view page_style();
std::string_view page_script();

/// plotly.min.js; empty in a build without it (no_plotly.cpp).
std::string_view plotly_script();

}  // namespace isobar
