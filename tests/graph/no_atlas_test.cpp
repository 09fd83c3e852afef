// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/grid.hpp>
#include <gtest/gtest.h>

#include <string>

namespace isobar::no_atlas_test {
namespace {

TEST(GaussianGrid, SaysWhatIsMissingWithoutAtlas) {
  try {
    make_gaussian_grid("N32");
    FAIL() << "a grid was made without Atlas";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("libatlas-ecmwf-dev"), std::string::npos);
  }
}

}  // namespace
}  // namespace isobar::no_atlas_test
