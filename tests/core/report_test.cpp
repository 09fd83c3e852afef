// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/report.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/version.hpp>
#include <nlohmann/json.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::report_test {
namespace {

using nlohmann::json;

const json kRows = json::array({json{{"op", "allreduce"}, {"median_s", 0.5}}});

TEST(Report, SaysWhereItsRowsCameFrom) {
  const test::TemporaryFolder folder;
  write_report((folder / "a.json").string(), "isobar.test.1", {"program", "--json"}, kRows);
  EXPECT_EQ(json::parse(test::read_file(folder / "a.json")),
            json({{"schema", "isobar.test.1"},
                  {"commit", commit()},
                  {"host", host_name()},
                  {"command", {"program", "--json"}},
                  {"rows", kRows}}));
}

TEST(Report, HoldsWhatStandsBesideTheRows) {
  const test::TemporaryFolder folder;
  write_report((folder / "a.json").string(), "isobar.test.1", {}, kRows, json{{"warnings", 2}});
  const auto written = json::parse(test::read_file(folder / "a.json"));
  EXPECT_EQ(written["warnings"], 2);
  EXPECT_EQ(written["rows"], kRows);
}

TEST(Report, IsCheckedBeforeThereIsOne) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(check_report_file((folder / "a.json").string()), "");
  EXPECT_EQ(check_report_file("a.json"), "");
  EXPECT_EQ(check_report_file("-"), "");
  EXPECT_EQ(check_report_file("/dev/null"), "");
  EXPECT_EQ(check_report_file((folder / "none/a.json").string()),
            "there is no folder '" + (folder / "none").string() + "'; make it first");
  EXPECT_EQ(check_report_file((folder / "").string()),
            "'" + (folder / "").string() + "' is a folder; name a file");
}

TEST(Report, GoesToStandardOutputOrNowhere) {
  testing::internal::CaptureStdout();
  write_report("-", "isobar.test.1", {}, kRows);
  write_report("", "isobar.test.2", {}, kRows);
  EXPECT_EQ(json::parse(testing::internal::GetCapturedStdout())["schema"], "isobar.test.1");
}

TEST(Report, NamesAFileThatCannotBeWritten) {
  const test::TemporaryFolder folder;
  const auto file = (folder / "missing" / "a.json").string();
  const auto message =
      test::message_of<Error>([&] { write_report(file, "isobar.test.1", {}, kRows); });
  EXPECT_NE(message.find(file), std::string::npos) << message;
}

}  // namespace
}  // namespace isobar::report_test
