// SPDX-License-Identifier: Apache-2.0
// write_page OUTPUT PATH...: what `isobar report` does, without LibTorch, for tests of the page.
#include <isobar/core/atomic_file.hpp>
#include <isobar/report/report.hpp>

#include <exception>
#include <filesystem>
#include <iostream>
#include <vector>

int main(int count, char** words) {
  try {
    const std::vector<std::filesystem::path> paths(words + 2, words + count);
    isobar::write_file_atomically(words[1], isobar::report_page(isobar::make_report(paths)));
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
