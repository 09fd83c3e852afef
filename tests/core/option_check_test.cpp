// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/option_check.hpp>

#include <gtest/gtest.h>

#include <stdexcept>

namespace isobar::option_check_test {
namespace {

TEST(OptionCheck, TakesNumbersAndNothingBesides) {
  for (const char* word : {"1", "0.5", "1e-3"}) EXPECT_EQ(check_positive(word), "");
  for (const char* word : {"0", "-1", "nan", "inf", "1x", "", " 1"}) {
    EXPECT_EQ(check_positive(word), std::string("must be a number above 0, got ") + word);
  }
  EXPECT_EQ(check_not_negative("0"), "");
  EXPECT_EQ(check_not_negative("-1"), "must be a number of 0 or more, got -1");
}

TEST(OptionCheck, SaysWhatAParserThrew) {
  const auto check = checked_by([](const std::string& word) {
    ISOBAR_CHECK(word == "yes", "no such word: ", word);
    return 1;
  });
  EXPECT_EQ(check("yes"), "");
  EXPECT_EQ(check("no"), "no such word: no");
}

TEST(OptionCheck, LetsOtherExceptionsPass) {
  const auto check = checked_by([](const std::string&) { throw std::runtime_error("broken"); });
  EXPECT_THROW(check("yes"), std::runtime_error);
}

}  // namespace
}  // namespace isobar::option_check_test
