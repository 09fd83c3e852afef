// SPDX-License-Identifier: Apache-2.0
// Pictures of a report's charts, which a browser draws that shows no window.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace isobar {

/// A Chromium or Chrome on the PATH; empty where there is none.
std::string find_browser();

/// Has the browser draw each chart of a page of report_page() into <folder>/chart-<n>.png, n from
/// 1; makes the folder. Blocks, some seconds a chart. The files' names. Throws Error where the
/// browser cannot be started or leaves no picture.
std::vector<std::string> draw_charts(const std::string& browser, const std::filesystem::path& page,
                                     std::size_t charts, const std::filesystem::path& folder);

/// Has the browser print a page of report_page() as a PDF; blocks, some seconds. Throws Error as
/// draw_charts() does.
void print_page(const std::string& browser, const std::filesystem::path& page,
                const std::filesystem::path& pdf);

}  // namespace isobar
