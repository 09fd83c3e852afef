// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/info.hpp>

#include <gtest/gtest.h>

namespace isobar::info_test {
namespace {

TEST(Hdf5Info, NamesTheLibraryAndWhatItReads) {
  const auto info = hdf5_info();
  EXPECT_EQ(info.version.find("1."), 0U) << info.version;
  EXPECT_EQ(info.filters.size(), 4U);
  EXPECT_TRUE(info.filters.at("shuffle"));
}

}  // namespace
}  // namespace isobar::info_test
