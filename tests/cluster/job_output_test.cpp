// SPDX-License-Identifier: Apache-2.0
#include <isobar/cluster/job_output.hpp>

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "core/temporary_folder.hpp"

namespace isobar::test::job_output_test {
namespace {

TEST(JobOutput, BeginsWithTheLastLines) {
  const TemporaryFolder folder;
  write_file(folder / "1.out", "a\nb\nc\n");
  EXPECT_EQ(JobOutput(folder / "1.out", 2).read(), "b\nc\n");
  EXPECT_EQ(JobOutput(folder / "1.out", 3).read(), "a\nb\nc\n");
  EXPECT_EQ(JobOutput(folder / "1.out", 9).read(), "a\nb\nc\n");
  write_file(folder / "1.out", "a\nb\nc");
  EXPECT_EQ(JobOutput(folder / "1.out", 2).read(), "b\nc") << "a line that has no end yet";
}

TEST(JobOutput, GoesOnWhereItWas) {
  const TemporaryFolder folder;
  const auto path = folder / "1.out";
  JobOutput output(path, 1);
  EXPECT_FALSE(output.read()) << "before the job has begun";
  write_file(path, "");
  EXPECT_EQ(output.read(), "");
  std::ofstream(path, std::ios::app) << "a\nb\n";
  EXPECT_EQ(output.read(), "a\nb\n");
  EXPECT_EQ(output.read(), "");
  std::ofstream(path, std::ios::app) << "c";
  EXPECT_EQ(output.read(), "c");
}

TEST(JobOutput, FindsLinesThatLieFarApart) {
  const TemporaryFolder folder;
  const std::string line(100000, 'x');
  write_file(folder / "1.out", "first\n" + line + "\n" + line + "\n");
  EXPECT_EQ(JobOutput(folder / "1.out", 2).read(), line + "\n" + line + "\n");
  EXPECT_EQ(JobOutput(folder / "1.out", 1).read(), line + "\n");
}

}  // namespace
}  // namespace isobar::test::job_output_test
