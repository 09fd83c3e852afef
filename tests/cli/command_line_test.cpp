// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.hpp"

#include <CLI/CLI.hpp>
#include <gtest/gtest.h>

#include <sstream>

namespace isobar::command_line_test {
namespace {

/// isobar train FILE [--steps N] [--fast], isobar bench step|collective [--sync none|ddp].
class CommandLine : public testing::Test {
 protected:
  CommandLine() {
    app_.require_subcommand(1);
    set_help_style(app_);
    auto* train = app_.add_subcommand("train", "Train an experiment");
    set_example(*train, "isobar train a.yaml");
    train->add_option("file", file_, "a YAML file")->required();
    train->add_option("--steps", steps_,
                      "how many updates there are, in so many words that a line of help must be "
                      "broken before it is too long");
    train->add_flag("--fast", fast_, "at once");
    auto* bench = app_.add_subcommand("bench", "Measure")->require_subcommand(1);
    bench->add_subcommand("collective", "One collective");
    auto* step = bench->add_subcommand("step", "A training step");
    step->add_option("--sync", sync_, "what is summed")->check(CLI::IsMember({"none", "ddp"}));
  }

  std::string explain(const std::vector<std::string>& words) {
    try {
      app_.parse(std::vector<std::string>(words.rbegin(), words.rend()));
    } catch (const CLI::ParseError& refusal) {
      return explain_refusal(app_, words, refusal.what());
    }
    return "accepted";
  }

  std::string file_, sync_ = "ddp";
  int steps_ = 7;
  bool fast_ = false;
  CLI::App app_{"Trains", "isobar"};
};

TEST_F(CommandLine, SuggestsTheNearestCommandAndOption) {
  EXPECT_EQ(explain({"trian", "a.yaml"}),
            "isobar: no command 'trian'; did you mean 'train'? (isobar --help says more)");
  EXPECT_EQ(
      explain({"bench", "stpe"}),
      "isobar bench: no command 'stpe'; did you mean 'step'? (isobar bench --help says more)");
  EXPECT_EQ(
      explain({"bench", "xyz"}),
      "isobar bench: no command 'xyz'; known: collective, step (isobar bench --help says more)");
  EXPECT_EQ(explain({"train", "a.yaml", "--stesp=3"}),
            "isobar train: no option '--stesp'; did you mean '--steps'? "
            "(isobar train --help says more)");
}

TEST_F(CommandLine, LeavesOtherRefusalsToCli11) {
  EXPECT_EQ(explain({"train"}), "isobar train: file is required (isobar train --help says more)");
  EXPECT_NE(explain({"bench", "step", "--sync", "all"}).find("--sync"), std::string::npos);
  EXPECT_EQ(explain({"train", "--steps", "-3", "a.yaml", "--fast"}), "accepted");
}

TEST_F(CommandLine, KnowsWhereACommandIsWanted) {
  EXPECT_EQ(command_without_subcommand(app_, {}), &app_);
  EXPECT_EQ(command_without_subcommand(app_, {"bench"})->get_name(), "bench");
  EXPECT_EQ(command_without_subcommand(app_, {"train"}), nullptr);
  EXPECT_EQ(command_without_subcommand(app_, {"trian"}), nullptr);
}

TEST_F(CommandLine, HelpsWithDefaultsAndAnExampleInEightyColumns) {
  const auto help = app_.get_subcommand("train")->help();
  EXPECT_NE(help.find("--steps INT=7"), std::string::npos) << help;
  EXPECT_NE(help.find("Example:\n  isobar train a.yaml"), std::string::npos) << help;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
}

TEST_F(CommandLine, PutsEveryCommandAndOptionIntoPageAndCompletion) {
  const auto script = bash_completion(app_), page = man_page(app_, "1.2.3");
  for (const char* word : {"train", "bench", "collective", "step", "--steps", "--fast", "--sync",
                           "--help", "none ddp"}) {
    EXPECT_NE(script.find(word), std::string::npos) << word;
  }
  for (const char* word : {"isobar train", "isobar bench step", "\\-\\-steps INT=7", "\\-\\-sync",
                           "a YAML file", "isobar train a.yaml", "1.2.3"}) {
    EXPECT_NE(page.find(word), std::string::npos) << word << " in\n" << page;
  }
}

}  // namespace
}  // namespace isobar::command_line_test
