// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/climatology_plan.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"
#include "weather/sample_hours.hpp"

#include <isobar/core/error.hpp>
#include <isobar/train/climatology_groups.hpp>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

namespace isobar::climatology_plan_test {
namespace {

constexpr int64_t kPoints = 6;

/// Data on 2 x 3 points from 2019-03-01 on.
class ClimatologyPlans : public testing::Test {
 protected:
  void write(int64_t times, int64_t step_hours, const std::string& calendar = "standard") {
    test::WeatherFile weather{.hours = {}, .calendar = calendar};
    for (int64_t i = 0; i < times; ++i) {
      weather.hours.push_back(static_cast<double>(i * step_hours));
    }
    test::write_weather(folder_ / "a.nc", weather);
  }

  /// Trained until `test`, tested until `end`.
  Experiment experiment(const std::string& test, const std::string& end,
                        const std::vector<std::string>& overrides = {}) const {
    return read_experiment(Config::parse(R"(
run: {name: test}
data:
  path: )" + (folder_ / "a.nc").string() + R"(
  variables: [t]
  train: {begin: 2019-03-01, end: )" + test + R"(}
  validation: {begin: )" + test + ", end: " + end +
                                             R"(}
  test: {begin: )" + test + ", end: " + end + R"(}
graph: {hidden_level: 3, margin_degrees: 10}
model: {channels: 8, layers: 1}
optimizer: {learning_rate: 1.0e-2}
train: {steps: 4}
)",
                                         "test.yaml", overrides));
  }

  /// What evaluation would hold at once, of every step of its forecasts.
  int64_t evaluated(const Experiment& experiment, int64_t lead_hours) const {
    const auto dataset = std::make_shared<const Dataset>(experiment.data);
    const auto calendar = dataset->calendar();
    const auto set =
        make_samples(dataset, Normalizer({"t"}, {{0, 1}}),
                     with_scoring_hours({.input_hours = {0}}, experiment, lead_hours),
                     parse_period(experiment.test.begin, experiment.test.end, calendar), "test");
    const auto period = parse_period(experiment.train.begin, experiment.train.end, calendar);
    const ClimatologySlots slots(dataset->times(), calendar, period);
    int64_t most = 0;
    for (const auto& group : group_by_climatology({{set, set->options().target_hours}},
                                                  {period, experiment.data.cache_bytes})) {
      std::set<ClimatologySlot> own;
      for (const int64_t time : group.times) own.insert(slots.of(time));
      most = std::max(most, std::ssize(own));
    }
    return most;
  }

  test::TemporaryFolder folder_;
};

TEST_F(ClimatologyPlans, CountTheTimesOfDayThatTheDataHave) {
  for (const auto& [step, times_of_day] : {std::pair{1, 24}, {3, 8}, {12, 2}}) {
    write(12 * 24 / step, step);
    std::vector<std::string> overrides;
    if (step == 12) overrides = {"data.step_hours=12", "data.input_hours=[-12, 0]"};
    const auto e = experiment("2019-03-11", "2019-03-13", overrides);
    const auto plan = plan_climatology(e, kPoints);
    EXPECT_EQ(plan.fields, times_of_day) << "every " << step << " h, and steps of 6 h or 12 h";
    EXPECT_EQ(plan.fields_at_once, evaluated(e, 2 * e.step_hours));
    EXPECT_EQ(plan.peak_bytes, times_of_day * kPoints * 12);
    EXPECT_EQ(plan.assumed, "");
  }
}

TEST_F(ClimatologyPlans, CountTheDaysOfTheDatasOwnCalendar) {
  for (const auto& [calendar, days] :
       {std::pair{"standard", 366}, {"noleap", 365}, {"360_day", 360}}) {
    write(4 * 2 * 366, 6, calendar);
    const auto e = experiment("2020-03-01", "2021-03-02");
    const auto plan = plan_climatology(e, kPoints);
    EXPECT_EQ(plan.fields, 4 * days) << calendar;
    EXPECT_EQ(plan.fields_at_once, 4 * days);
  }
  // A date that this calendar alone has.
  EXPECT_EQ(plan_climatology(experiment("2021-02-30", "2021-03-02"), kPoints).fields, 4 * 2);
}

TEST_F(ClimatologyPlans, HoldAsManyFieldsAtOnceAsEvaluationDoes) {
  write(4 * 2 * 366, 6);
  for (const int64_t held : {1, 61, 100, 250, 700, 1463, 1464}) {
    const auto e = experiment("2020-03-01", "2021-03-02",
                              {"data.cache_bytes=" + std::to_string(held * kPoints * 12)});
    const auto plan = plan_climatology(e, kPoints);
    EXPECT_LE(plan.fields_at_once, std::max<int64_t>(61, held));
    for (const int64_t lead : {6, 60}) EXPECT_EQ(plan.fields_at_once, evaluated(e, lead)) << held;
  }
}

TEST_F(ClimatologyPlans, SayWhatTheyAssumeWhereThereAreNoData) {
  const auto plan = plan_climatology(experiment("2020-03-01", "2020-03-11"), kPoints);
  EXPECT_EQ(plan.fields, 4 * 10);
  EXPECT_EQ(plan.assumed, "fields every 6 h in the standard calendar");
  const auto other = plan_climatology(experiment("2021-02-30", "2021-03-02"), kPoints);
  EXPECT_EQ(other.fields, 4 * 2);
  EXPECT_EQ(other.assumed, "fields every 6 h in the 360_day calendar");
  EXPECT_EQ(plan_climatology(experiment("2019-06-01", "2019-06-11"), kPoints).fields, 4)
      << "three months have no seasons";
}

TEST_F(ClimatologyPlans, RefuseAPeriodByItsKey) {
  const auto refused = [&](const std::string& test, const std::string& end) {
    return test::message_of<UsageError>([&] { plan_climatology(experiment(test, end), kPoints); });
  };
  EXPECT_EQ(refused("2019-13-01", "2019-14-01").substr(0, 12), "data.train: ");
  write(12 * 24, 1);
  EXPECT_EQ(refused("2019-04-01", "2019-04-11").substr(0, 27), "data.validation: no time of");
}

}  // namespace
}  // namespace isobar::climatology_plan_test
