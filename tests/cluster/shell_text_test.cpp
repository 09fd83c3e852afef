// SPDX-License-Identifier: Apache-2.0
#include "cluster/shell_text.hpp"

#include <gtest/gtest.h>

#include <string>

namespace isobar::shell_text_test {
namespace {

TEST(ShellText, LeavesPlainWordsAsTheyAre) {
  EXPECT_EQ(quoted("train"), "train");
  EXPECT_EQ(quoted("/a/b-c_d.yaml"), "/a/b-c_d.yaml");
  EXPECT_EQ(quoted("optimizer.rate=1e-3"), "optimizer.rate=1e-3");
}

TEST(ShellText, QuotesWhatTheShellWouldRead) {
  EXPECT_EQ(quoted(""), "''");
  EXPECT_EQ(quoted("my run"), "'my run'");
  EXPECT_EQ(quoted("it's"), "'it'\\''s'");
  EXPECT_EQ(quoted("$HOME `id` \"x\""), "'$HOME `id` \"x\"'");
  for (const char* word : {"~", "a*", "a#b", "a;b", "{a,b}", "!x", "a&", "[a]", "é"}) {
    EXPECT_EQ(quoted(word), "'" + std::string(word) + "'");
  }
}

TEST(ShellText, LetsVariablesThroughAndNothingElse) {
  EXPECT_EQ(quoted_with_variables("/tmp/${USER}-$SLURM_JOB_ID"), "\"/tmp/${USER}-$SLURM_JOB_ID\"");
  EXPECT_EQ(quoted_with_variables("$(id) ${A:-b} $1 $"), "\"\\$(id) \\${A:-b} \\$1 \\$\"");
  EXPECT_EQ(quoted_with_variables("`id` \"x\" \\"), "\"\\`id\\` \\\"x\\\" \\\\\"");
  EXPECT_EQ(quoted_with_variables("^LL128"), "^LL128");
}

TEST(ShellText, TellsLinesApart) {
  EXPECT_TRUE(is_one_line("an é and a 'quote'"));
  EXPECT_FALSE(is_one_line("a\nb"));
  EXPECT_FALSE(is_one_line("a\rb"));
  EXPECT_FALSE(is_one_line(std::string("a\0b", 3)));
}

}  // namespace
}  // namespace isobar::shell_text_test
