// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include "comm/expect_error.hpp"
#include "comm/nccl/communicator.hpp"

namespace isobar::test::no_nccl_test {
namespace {

TEST(NoNccl, SaysWhatToDo) {
  const auto of_id = error_of<UsageError>([] { (void)make_nccl_unique_id(); });
  const auto of_world = error_of<UsageError>([] { (void)make_nccl_communicator({}, nullptr); });
  expect_contains(of_id, "-DISOBAR_GPU=cuda or rocm");
  EXPECT_EQ(of_world, of_id);
}

TEST(NoNccl, HasNoVersion) { EXPECT_EQ(nccl_library_version(), ""); }

}  // namespace
}  // namespace isobar::test::no_nccl_test
