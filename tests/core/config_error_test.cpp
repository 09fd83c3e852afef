// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <isobar/core/config.hpp>
#include <isobar/core/error.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::config_error_test {
namespace {

Config parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return Config::parse(text, "experiment.yaml", overrides);
}

template <typename Action>
std::string error_of(Action&& action) {
  return test::message_of<UsageError>(action);
}

TEST(ConfigError, NamesTheNearestKeyOfTheSection) {
  const Config config = parse("optimizer:\n  # the peak\n  learning_rat: 1e-3\n");
  config.child("optimizer").get<double>("learning_rate", 1e-4);
  EXPECT_EQ(error_of([&] { config.finish(); }),
            "experiment.yaml:3: unknown key 'learning_rat' in section 'optimizer'; "
            "did you mean 'learning_rate'?");
}

TEST(ConfigError, ListsTheKnownKeysWhereNoneIsNear) {
  const Config config = parse("train:\n  momentum: 1\n");
  config.child("train").get<int>("steps", 1);
  config.child("train").get<int>("seed", 1);
  EXPECT_EQ(error_of([&] { config.finish(); }),
            "experiment.yaml:2: unknown key 'momentum' in section 'train'; known: seed, steps");
}

TEST(ConfigError, NamesAnUnknownSectionAndNotWhatIsInIt) {
  const Config config = parse("trian:\n  steps: 1\n");
  config.child("train").get<int>("steps", 1);
  EXPECT_EQ(error_of([&] { config.finish(); }),
            "experiment.yaml:1: unknown key 'trian'; did you mean 'train'?");
}

TEST(ConfigError, NamesTheCommandLineForAnUnknownOverride) {
  const Config config = parse("ddp: {bucket_cap_bytes: 1}\n", {"ddp.bucket_cap=3"});
  config.child("ddp").get_bytes("bucket_cap_bytes");
  EXPECT_EQ(error_of([&] { config.finish(); }),
            "command line: unknown key 'ddp.bucket_cap'; did you mean 'ddp.bucket_cap_bytes'?");
}

TEST(ConfigError, CorrectsTheWrongPartOfAnOverride) {
  const Config config = parse("", {"dpp.bucket_cap_bytes=3"});
  config.child("ddp").get_bytes("bucket_cap_bytes", 1);
  EXPECT_EQ(error_of([&] { config.finish(); }),
            "command line: unknown key 'dpp.bucket_cap_bytes'; "
            "did you mean 'ddp.bucket_cap_bytes'?");
}

TEST(ConfigError, NamesLineKeyAndTypeOfAWrongValue) {
  const Config config = parse("a: many\nb: '5'\nc: [1, x]\nd: .nan\ne: 99999999999\nf: {g: 1}\n");
  EXPECT_EQ(error_of([&] { config.get<std::int64_t>("a"); }),
            "experiment.yaml:1: 'a' must be an integer, got 'many'");
  EXPECT_EQ(error_of([&] { config.get<int>("b", 1); }),
            "experiment.yaml:2: 'b' must be an integer of 32 bits, got the string '5'");
  EXPECT_EQ(error_of([&] { config.get<std::vector<int>>("c"); }),
            "experiment.yaml:3: 'c' must be a list of integers, got the list [1, x]");
  EXPECT_EQ(error_of([&] { config.get<double>("d"); }),
            "experiment.yaml:4: 'd' must be a finite number, got '.nan'");
  EXPECT_EQ(error_of([&] { config.get<int>("e"); }),
            "experiment.yaml:5: 'e' must be an integer of 32 bits, got '99999999999'");
  EXPECT_EQ(error_of([&] { config.get<bool>("f"); }),
            "experiment.yaml:6: 'f' must be true or false, got a section");
}

TEST(ConfigError, NamesTheCommandLineForAWrongValueThere) {
  const Config config = parse("train: {steps: 5}\n", {"train.steps=1.5"});
  EXPECT_EQ(error_of([&] { config.child("train").get<std::int64_t>("steps"); }),
            "command line: 'train.steps' must be an integer, got '1.5'");
}

TEST(ConfigError, RefusesAValueWhereASectionIsRead) {
  EXPECT_EQ(error_of([] { parse("\ntrain: 5\n").child("train"); }),
            "experiment.yaml:2: 'train' must be a section, got '5'");
}

TEST(ConfigError, NamesSectionAndKeyOfAMissingValue) {
  const Config config = parse("name: a\ndata:\n  pth: x\n");
  EXPECT_EQ(error_of([&] { config.child("data").get<std::string>("path"); }),
            "experiment.yaml:2: required key 'path' is missing in section 'data'; "
            "is it what 'pth' was meant to be?");
  EXPECT_EQ(error_of([&] { config.child("run").get<std::string>("name"); }),
            "experiment.yaml: required key 'name' is missing in section 'run'");
  EXPECT_EQ(error_of([&] { config.get<int>("seed"); }),
            "experiment.yaml: required key 'seed' is missing");
}

TEST(ConfigError, NamesARequiredKeyWithoutAValue) {
  const Config config = parse("run:\n  name:\ndata: {path: a}\n", {"data.path="});
  EXPECT_EQ(error_of([&] { config.child("run").get<std::string>("name"); }),
            "experiment.yaml:2: 'run.name' has no value; it must be a string");
  EXPECT_EQ(error_of([&] { config.child("data").get<std::string>("path"); }),
            "command line: 'data.path' has no value; it must be a string");
}

TEST(ConfigError, NamesTheLimitsOfANumber) {
  const Config config = parse("a: 0\nb: -1\nc: 1.0\nd: 11\ne: 0B\n");
  EXPECT_EQ(error_of([&] { config.get<std::int64_t>("a", at_least(1)); }),
            "experiment.yaml:1: 'a' must be 1 or more, got 0");
  EXPECT_EQ(error_of([&] { config.get<int>("b", 3, {.above = 0}); }),
            "experiment.yaml:2: 'b' must be above 0, got -1");
  EXPECT_EQ(error_of([&] { config.get<double>("c", {.least = 0, .below = 1}); }),
            "experiment.yaml:3: 'c' must be 0 or more and below 1, got 1.0");
  EXPECT_EQ(error_of([&] { config.get<std::int64_t>("d", {.least = 0, .most = 10}); }),
            "experiment.yaml:4: 'd' must be from 0 to 10, got 11");
  EXPECT_EQ(error_of([&] { config.get_bytes("e", 4, at_least(1)); }),
            "experiment.yaml:5: 'e' must be 1 or more, got 0B");
  EXPECT_EQ(config.get<int>("f", 3, at_least(3)), 3);
}

TEST(ConfigError, NamesWhatASizeAndAnEnumerationMayBe) {
  const Config config = parse("cap: 25 mib\nkind: shard\n");
  EXPECT_EQ(error_of([&] { config.get_bytes("cap"); }),
            "experiment.yaml:1: 'cap' must be a size such as 25MiB, got '25 mib'");
  EXPECT_EQ(error_of([&] {
              config.one_of("kind", {"sharded", "replicated"});
            }),
            "experiment.yaml:2: 'kind' must be one of sharded, replicated, got 'shard'; "
            "did you mean 'sharded'?");
}

TEST(ConfigError, RefusesAKeyGivenTwice) {
  EXPECT_EQ(error_of([] { parse("train:\n  steps: 1\n  seed: 1\n  steps: 2\n"); }),
            "experiment.yaml:4: 'train.steps' is given twice, first on line 2");
}

TEST(ConfigError, NamesTheLineOfWhatIsNotYaml) {
  EXPECT_EQ(error_of([] { parse("a: 1\n  b: 2\n"); }),
            "experiment.yaml:2: not valid YAML: illegal map value");
  EXPECT_EQ(error_of([] { parse("- a\n"); }),
            "experiment.yaml: must hold sections and keys (key: value)");
  EXPECT_EQ(error_of([] { parse("a: 1\n---\nb: 1\n"); }),
            "experiment.yaml: holds several YAML documents, but must be one");
}

TEST(ConfigError, SaysThatATextWithABraceInFrontNeedsQuotes) {
  const std::string in_file = "; a text that begins with { needs quotes: \"{name}/file\"";
  EXPECT_EQ(error_of([] { parse("data:\n  path: {era5}/2m.nc\n  target: t2m\n"); }),
            "experiment.yaml:2: not valid YAML: end of map not found" + in_file);
  EXPECT_EQ(error_of([] { parse("a: 1\ndata: {path: {era5}/2m.nc, b: 1}\n"); }),
            "experiment.yaml:2: not valid YAML: end of map flow not found" + in_file);
  const std::string in_shell =
      "; a text that begins with { needs quotes, and the shell's around them: "
      "\"key='{name}/file'\"";
  EXPECT_EQ(error_of([] { parse("", {"data.path={era5}/2m.nc"}); }),
            "command line: 'data.path={era5}/2m.nc': holds several YAML documents, but must be "
            "one" +
                in_shell);
  EXPECT_EQ(
      error_of([] { parse("", {"path={era5/2m.nc"}); }),
      "command line: 'path={era5/2m.nc': not valid YAML: end of map flow not found" + in_shell);
  EXPECT_EQ(error_of([] { parse("", {"b=[{c: 1}, 2"}); }),
            "command line: 'b=[{c: 1}, 2': not valid YAML: end of sequence flow not found");
}

TEST(ConfigError, SurvivesAValueThatHoldsItself) {
  EXPECT_EQ(error_of([] { parse("a: &x [*x]\n"); }),
            "experiment.yaml:1: nested deeper than 64 levels");
}

TEST(ConfigError, NamesAnOverrideThatIsNoAssignment) {
  EXPECT_EQ(error_of([] { parse("", {"steps"}); }),
            "command line: 'steps' is not section.key=value");
  EXPECT_EQ(error_of([] { parse("", {"a..b=1"}); }),
            "command line: 'a..b=1' is not section.key=value: a key is empty");
  EXPECT_EQ(error_of([] { parse("a: 1\n", {"a.b=1"}); }),
            "command line: cannot set 'a.b': 'a' is not a section");
  EXPECT_EQ(error_of([] { parse("", {"a=[1"}); }),
            "command line: 'a=[1': not valid YAML: end of sequence flow not found");
}

TEST(ConfigError, NamesAFileThatCannotBeRead) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(
      error_of([&] { load_config(folder / "no.yaml"); }),
      (folder / "no.yaml").string() + ": cannot read the configuration: No such file or directory");
  EXPECT_EQ(error_of([&] { load_config(folder.path()); }),
            folder.path().string() + ": cannot read the configuration: it is a folder");
}

}  // namespace
}  // namespace isobar::config_error_test
