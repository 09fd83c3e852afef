// SPDX-License-Identifier: Apache-2.0
#include "cli/scores_table.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace isobar::scores_table_test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Of one variable at one lead time.
std::string table(int64_t lead_hours, VariableScore score) {
  score.variable = "x";
  return scores_table({{lead_hours, 144, {std::move(score)}}});
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ScoresTable, ShowsSmallScoresByTheirDigits) {
  const auto kelvin =
      table(6, {.rmse = 1.20449, .bias = -0.0123, .persistence = 2.5, .previous_day = 4});
  EXPECT_TRUE(holds(kelvin, "1.204  -0.0123       2.500        4.000  0.482")) << kelvin;
  const auto rain =
      table(6, {.rmse = 0.000123456, .bias = 1.5e-6, .persistence = 0.00025, .previous_day = 0});
  EXPECT_TRUE(holds(rain, "0.000123  1.5e-06     0.00025        0.000  0.494")) << rain;
}

TEST(ScoresTable, ShowsADashForWhatIsNotKnown) {
  const auto text = table(6, {.rmse = 0.5, .bias = 0, .persistence = 0, .previous_day = kNan});
  EXPECT_TRUE(holds(text, "0.500    0.000       0.000            -      -")) << text;
}

TEST(ScoresTable, ShowsAForecastThatIsNoNumberAsThat) {
  const auto text =
      table(6, {.rmse = kNan, .bias = kNan, .persistence = 2, .previous_day = 1, .known = 0.5});
  EXPECT_TRUE(holds(text, " nan      nan       2.000        1.000")) << text;
  const auto negative = table(6, {.rmse = -kNan, .bias = -kNan, .persistence = 2, .known = 0.5});
  EXPECT_TRUE(holds(negative, " nan ") && !holds(negative, "-nan")) << negative;
  const auto missing =
      table(6, {.rmse = kNan, .bias = kNan, .persistence = kNan, .previous_day = 1, .known = 0});
  EXPECT_TRUE(holds(missing, "  -        -           -        1.000")) << missing;
}

TEST(ScoresTable, NamesTheDayThatAForecastIsComparedWith) {
  EXPECT_TRUE(holds(table(24, {}), "24 h earlier"));
  const auto far = table(48, {});
  EXPECT_FALSE(holds(far, "24 h earlier"));
  EXPECT_TRUE(holds(far, "days earlier: the last field known at the analysis")) << far;
}

}  // namespace
}  // namespace isobar::scores_table_test
