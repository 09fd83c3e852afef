// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/version.hpp>

#include <gtest/gtest.h>

namespace isobar::version_test {
namespace {

TEST(Version, SaysWhatThisBuildIs) {
  EXPECT_EQ(version(), ISOBAR_EXPECTED_VERSION);
  EXPECT_TRUE(commit() == "unknown" || commit().size() == 12) << commit();
  EXPECT_GE(std::stoi(torch_version()), 2) << torch_version();
  EXPECT_FALSE(compiler().empty());
}

}  // namespace
}  // namespace isobar::version_test
