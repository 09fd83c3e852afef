// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/field_check.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::field_check_test {
namespace {

/// `t` over 100 hours, constant at `odd_hour`.
std::string write(const test::TemporaryFolder& folder, double odd_hour = -1) {
  const auto path = (folder / "a.nc").string();
  std::vector<double> hours(100);
  std::iota(hours.begin(), hours.end(), 0);
  test::write_weather(path, {.hours = hours, .value = [=](int, double hour, int64_t point) {
                               const auto p = static_cast<double>(point);
                               return hour == odd_hour ? 280.0 : 280 + p + std::sin(hour + p);
                             }});
  return path;
}

TEST(FieldCheck, FindsNothingInWeather) {
  const test::TemporaryFolder folder;
  FieldCheck check({.paths = {write(folder)}});
  EXPECT_EQ(check.variables(), std::vector<std::string>{"t"});
  std::vector<int64_t> told;
  check.look_at("t", [&](int64_t done, int64_t total) {
    told.push_back(done);
    EXPECT_EQ(total, 100);
  });
  EXPECT_TRUE(check.findings().empty());
  EXPECT_EQ(told.size(), 101U);
  EXPECT_EQ(told.front(), 0);
  EXPECT_EQ(told.back(), 100);
}

TEST(FieldCheck, SaysWhatIsOddAndWhen) {
  const test::TemporaryFolder folder;
  FieldCheck check({.paths = {write(folder, 30)}});
  check.look_at("t");
  check.look_at("t");
  ASSERT_EQ(check.findings().size(), 1U) << "each text once";
  const auto& finding = check.findings().front();
  EXPECT_EQ(finding.check, "constant");
  EXPECT_EQ(finding.text.find("'t' "), 0U) << finding.text;
  EXPECT_NE(finding.text.find(": at 1 times, 2019-03-02T06:00"), std::string::npos) << finding.text;
  ASSERT_TRUE(finding.when.has_value());
  EXPECT_EQ(finding.when->times, 1);
  EXPECT_EQ(finding.when->first, "2019-03-02T06:00");
}

TEST(FieldCheck, TakesWhatIsAmissWithAFileForAFinding) {
  const test::TemporaryFolder folder;
  const auto path = (folder / "levels.nc").string();
  test::write_with_levels(path);
  FieldCheck check({.paths = {path}});
  check.look_at("t");
  ASSERT_EQ(check.findings().size(), 1U);
  EXPECT_EQ(check.findings().front().check, "file");
  EXPECT_NE(check.findings().front().text.find("data.select.level=850"), std::string::npos);
  EXPECT_FALSE(check.findings().front().when.has_value());
}

TEST(FieldCheck, RefusesAChoiceThatNoVariableHas) {
  const test::TemporaryFolder folder;
  const auto path = write(folder);
  const auto text = test::message_of<UsageError>([&] {
    FieldCheck({.paths = {path}, .select = {{"levl", "850"}}});
  });
  EXPECT_EQ(text.find(path + ": data.select.levl: no variable has such a dimension; "), 0U) << text;
}

}  // namespace
}  // namespace isobar::field_check_test
