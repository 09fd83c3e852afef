// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/record.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <isobar/core/version.hpp>
#include <nlohmann/json.hpp>
#include <limits>
#include <regex>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::record_test {
namespace {

using nlohmann::json;

TEST(RunRecord, HoldsWhereTheRunCameFrom) {
  const RunRecord record(
      {.command = {"isobar", "train", "e.yaml"}, .ranks = 4, .config = "steps: 5\n"});
  const json written = json::parse(record.text());
  EXPECT_EQ(written["isobar"]["version"], version());
  EXPECT_EQ(written["isobar"]["commit"], commit());
  EXPECT_EQ(written["torch"], torch_version());
  EXPECT_EQ(written["command"], json({"isobar", "train", "e.yaml"}));
  EXPECT_EQ(written["ranks"], 4);
  EXPECT_EQ(written["config"], "steps: 5\n");
  EXPECT_FALSE(written["host"].get<std::string>().empty());
  const std::regex utc(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)");
  EXPECT_TRUE(std::regex_match(written["start_time"].get<std::string>(), utc));
}

TEST(RunRecord, WritesWhatOthersAddedLast) {
  const test::TemporaryFolder folder;
  RunRecord record({.command = {"isobar"}});
  record.set("totals", {{"steps", 1}});
  record.write(folder / "record.json");
  record.set("totals", {{"steps", 2}});
  record.write(folder / "record.json");
  EXPECT_EQ(json::parse(test::read_file(folder / "record.json"))["totals"]["steps"], 2);
}

TEST(RunRecord, KeepsItsProvenance) {
  RunRecord record({.command = {"isobar"}});
  EXPECT_THROW(record.set("ranks", 3), UsageError);
}

TEST(RunRecord, SurvivesBytesThatAreNotText) {
  const RunRecord record({.command = {"isobar", "\xff"}});
  EXPECT_TRUE(json::accept(record.text()));
}

TEST(JsonLines, WritesEachObjectAtOnceAndOnOneLine) {
  const test::TemporaryFolder folder;
  JsonLines lines(folder / "metrics.jsonl");
  lines.append({{"event", "step"}, {"text", "a\nb"}});
  EXPECT_EQ(test::read_file(folder / "metrics.jsonl"), "{\"event\":\"step\",\"text\":\"a\\nb\"}\n");
  lines.append({{"loss", std::numeric_limits<double>::quiet_NaN()}});
  EXPECT_NE(test::read_file(folder / "metrics.jsonl").find("{\"loss\":null}\n"), std::string::npos);
}

TEST(JsonLines, ContinuesAFileAfterItsLastCompleteLine) {
  const test::TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  test::write_file(path, "{\"a\":1}\n{\"b\":" + std::string(10000, ' '));
  JsonLines(path).append({{"c", 3}});
  EXPECT_EQ(test::read_file(path), "{\"a\":1}\n{\"c\":3}\n");
  JsonLines(path).append({{"d", 4}});
  EXPECT_EQ(test::read_file(path), "{\"a\":1}\n{\"c\":3}\n{\"d\":4}\n");
}

TEST(JsonLines, StartsAgainWhereNoLineIsComplete) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "m.jsonl", "{\"a\":");
  JsonLines(folder / "m.jsonl").append({{"b", 1}});
  EXPECT_EQ(test::read_file(folder / "m.jsonl"), "{\"b\":1}\n");
}

TEST(JsonLines, RefusesWhatIsNoObject) {
  const test::TemporaryFolder folder;
  JsonLines lines(folder / "m.jsonl");
  EXPECT_THROW(lines.append(json::array({1, 2})), UsageError);
}

TEST(JsonLines, NamesAFileThatCannotBeWritten) {
  EXPECT_EQ(test::message_of<Error>([] { JsonLines lines("/nowhere/m.jsonl"); }),
            "cannot open /nowhere/m.jsonl: No such file or directory");
  EXPECT_EQ(test::message_of<Error>([] {
              JsonLines("/dev/full").append({{"a", 1}});
            }),
            "cannot write /dev/full: No space left on device");
}

}  // namespace
}  // namespace isobar::record_test
