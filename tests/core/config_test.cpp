// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/config.hpp>

#include <gtest/gtest.h>

#include <isobar/core/error.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::config_test {
namespace {

using test::message_of;

Config parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return Config::parse(text, "experiment.yaml", overrides);
}

TEST(Config, ReadsEveryType) {
  const Config config = parse(
      "flag: true\ncount: -3\nbig: 5000000000\nrate: 1e-3\nname: run 1\nsince: 2021-01-01\n"
      "days: [1, 2]\nweights: {2t: 0.5, msl: 2}\n");
  EXPECT_TRUE(config.get<bool>("flag"));
  EXPECT_EQ(config.get<int>("count"), -3);
  EXPECT_EQ(config.get<std::int64_t>("big"), 5000000000);
  EXPECT_EQ(config.get<double>("rate"), 1e-3);
  EXPECT_EQ(config.get<std::string>("name"), "run 1");
  EXPECT_EQ(config.get<std::string>("since"), "2021-01-01");
  EXPECT_EQ(config.get<std::vector<int>>("days"), (std::vector<int>{1, 2}));
  const std::map<std::string, double> weights{{"2t", 0.5}, {"msl", 2}};
  EXPECT_EQ((config.get<std::map<std::string, double>>("weights")), weights);
  config.finish();
}

TEST(Config, ReadsSizesWithUnits) {
  const Config config = parse("cap: 25MiB\nplain: 4096\n");
  EXPECT_EQ(config.get_bytes("cap"), 26214400);
  EXPECT_EQ(config.get_bytes("plain"), 4096);
  EXPECT_EQ(config.get_bytes("absent", 7), 7);
}

TEST(Config, ReadsEnumerations) {
  const Config config = parse("kind: replicated\n");
  EXPECT_EQ(config.one_of("kind", {"sharded", "replicated"}), "replicated");
  EXPECT_EQ(config.one_of("order", {"seeded", "file"}, "file"), "file");
}

TEST(Config, TakesDefaultsWhereAKeyOrItsSectionOrItsValueIsAbsent) {
  const Config config = parse("train:\n  steps:\n");
  EXPECT_EQ(config.child("train").get<int>("steps", 10), 10);
  EXPECT_EQ(config.child("train").get<std::string>("device", "cpu"), "cpu");
  EXPECT_EQ(config.child("ddp").child("buckets").get<double>("cap", 2.5), 2.5);
  config.finish();
}

TEST(Config, TellsWhatIsThere) {
  const Config config = parse("a: 1\nb: ~\n");
  EXPECT_TRUE(config.has("a"));
  EXPECT_FALSE(config.has("b"));
  EXPECT_FALSE(config.has("c"));
  config.get<int>("c", 5);
  EXPECT_FALSE(config.has("c"));
}

TEST(Config, ListsTheKeysThatAreWrittenInTheFilesOrder) {
  const Config config = parse("b: {y: 1}\na: [1]\nempty:\nnothing: {}\n", {"added=2"});
  config.get<int>("asked", 5);
  config.child("absent");
  EXPECT_EQ(config.keys(), (std::vector<std::string>{"b", "a", "empty", "nothing", "added"}));
}

TEST(Config, SaysWhereAKeyWasWritten) {
  const Config config = parse("b: 1\na: {c: 2}\n", {"added=2"});
  EXPECT_EQ(config.child("a").origin("c"), "experiment.yaml:2");
  EXPECT_EQ(config.origin("added"), "command line");
  EXPECT_EQ(config.origin("absent"), "experiment.yaml");
}

TEST(Config, DoesNotTakeAListedKeyForOneThatWasAskedFor) {
  const Config config = parse("machines: {first: {nodes: 1}, second: {nodse: 2}}\n");
  for (const auto& name : config.child("machines").keys()) {
    config.child("machines").child(name).get<int>("nodes", 0);
  }
  EXPECT_EQ(message_of<UsageError>([&] { config.finish(); }),
            "experiment.yaml:1: unknown key 'nodse' in section 'machines.second'; did you mean "
            "'nodes'?");
  const Config unread = parse("a: 1\n");
  EXPECT_EQ(unread.keys(), std::vector<std::string>{"a"});
  EXPECT_THROW(unread.finish(), UsageError);
}

TEST(Config, ReadsAnEmptyFileAsNothingButDefaults) {
  EXPECT_EQ(parse("# nothing\n").get<int>("steps", 3), 3);
}

TEST(Config, OverridesValuesListsAndSections) {
  const Config config =
      parse("train: {steps: 5, seed: 1}\n",
            {"train.steps=7", "train.steps=8", "data.days=[1, 2]", "ddp={cap: 4}", "run.name="});
  EXPECT_EQ(config.child("train").get<int>("steps"), 8);
  EXPECT_EQ(config.child("train").get<int>("seed"), 1);
  EXPECT_EQ(config.child("data").get<std::vector<int>>("days"), (std::vector<int>{1, 2}));
  EXPECT_EQ(config.child("ddp").get<int>("cap"), 4);
  EXPECT_EQ(config.child("run").get<std::string>("name", "unnamed"), "unnamed");
  config.finish();
}

TEST(Config, FlattensFileOverridesAndDefaultsSorted) {
  const Config config = parse("b: {y: 1, x: 'a b'}\n", {"b.y=2"});
  config.child("b").get<double>("rate", 0.001);
  config.get<std::vector<std::string>>("a", {"2t", "msl"});
  config.get<std::string>("empty", "");
  const std::vector<std::string> lines{"a=[2t, msl]", "b.rate=0.001", "b.x=\"a b\"", "b.y=2",
                                       "empty=\"\""};
  EXPECT_EQ(config.flatten(), lines);
}

TEST(Config, WritesTheEffectiveConfigurationSoThatItReadsBackTheSame) {
  const Config config = parse("name: \"5\"\nlines: \"a\\nb\"\ntrain: {days: [1, 2]}\n", {"n=~"});
  config.child("train").get<bool>("shuffle", true);
  config.get<std::map<std::string, int>>("levels", {{"t", 500}});
  EXPECT_EQ(parse(config.yaml()).flatten(), config.flatten());
  EXPECT_EQ(config.flatten().size(), 5U);
}

TEST(Config, ReadsAFileAndNamesItInErrors) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "e.yaml", "train:\n  steps: many\n");
  const Config config = load_config(folder / "e.yaml", {"train.seed=3"});
  EXPECT_EQ(config.child("train").get<int>("seed"), 3);
  EXPECT_EQ(message_of<UsageError>([&] { config.child("train").get<std::int64_t>("steps"); }),
            (folder / "e.yaml").string() + ":2: 'train.steps' must be an integer, got 'many'");
}

}  // namespace
}  // namespace isobar::config_test
