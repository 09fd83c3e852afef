// SPDX-License-Identifier: Apache-2.0
#include "cli/data_verify.hpp"

#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <gtest/gtest.h>

namespace isobar::data_verify_test {
namespace {

TEST(DataVerify, AsksForALevelAsItIsChosenOnTheCommandLine) {
  const test::TemporaryFolder folder;
  const auto path = (folder / "a.nc").string();
  test::write_with_levels(path);
  testing::internal::CaptureStdout();
  const int code = run_data_verify({.files = {path}});
  const auto text = testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, 1);
  EXPECT_NE(text.find("choose one with --select level=850"), std::string::npos) << text;
}

}  // namespace
}  // namespace isobar::data_verify_test
