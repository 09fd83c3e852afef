// SPDX-License-Identifier: Apache-2.0
// What is looked at before anything is trained.
#include <isobar/weather/weather_data.hpp>

#include <isobar/weather/weather_setup.hpp>
#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"
#include "weather/sample_hours.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

namespace isobar::weather_data_test {
namespace {

constexpr int64_t kPoints = 6;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// A variable `t` on 2 x 3 points, every `step` hours from 2019-03-01 on; trained on eight days,
/// validated on the ninth and tenth, tested on the eleventh and twelfth.
class WeatherDatas : public testing::Test {
 protected:
  template <typename ValueAt>
  void write(const std::vector<double>& hours, const ValueAt& value_at) {
    test::write_weather(
        (folder_ / "a.nc").string(),
        {.variables = {"t", "u"}, .hours = hours, .value = [&](int v, double hour, int64_t p) {
           return v == 0 ? value_at(hour, p) : wave(hour, p);
         }});
  }

  static double wave(double hour, int64_t p) {
    return 281 + 4 * std::cos(2 * std::numbers::pi * hour / 24) +
           std::sin(0.05 * hour + static_cast<double>(p));
  }

  static std::vector<double> every(double step, int64_t times) {
    std::vector<double> hours;
    for (int64_t i = 0; i < times; ++i) hours.push_back(step * static_cast<double>(i));
    return hours;
  }

  Experiment experiment(const std::vector<std::string>& overrides = {}) const {
    return read_experiment(Config::parse(R"(
run: {name: test}
data:
  path: )" + (folder_ / "a.nc").string() + R"(
  variables: [t]
  input_hours: [-6, 0]
  train: {begin: 2019-03-01, end: 2019-03-09}
  validation: {begin: 2019-03-09, end: 2019-03-11}
  test: {begin: 2019-03-11, end: 2019-03-13}
graph: {hidden_level: 2, margin_degrees: 10}
model: {channels: 8, layers: 1}
optimizer: {learning_rate: 1.0e-2}
train: {steps: 4}
)",
                                         "test.yaml", overrides));
  }

  WeatherData look(const std::vector<std::string>& overrides = {}) const {
    return {experiment(overrides), grid_};
  }

  template <typename E>
  std::string refused(const std::vector<std::string>& overrides = {}) const {
    return test::message_of<E>([&] { look(overrides); });
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<Communicator> comm_ = make_self_communicator();
  ProcessGrid grid_{*comm_, 1};
};

#define EXPECT_CONTAINS(text, part) \
  EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

TEST_F(WeatherDatas, CountTheSamplesThatEachPeriodHas) {
  auto hours = every(1, 12 * 24 - 24);  // the last day of the test period is missing
  hours.erase(hours.begin() + 210);     // and an hour of the validation period
  write(hours, wave);
  const auto record = look({"test.lead_hours=[6, 12]"}).record();
  const auto samples = [&](const std::string& name) {
    const auto& found = record["samples"][name];
    return std::pair<int64_t, int64_t>(found["used"], found["whole"]);
  };
  EXPECT_EQ(samples("data.train"), (std::pair<int64_t, int64_t>(192 - 12, 192)));
  // The hour is the target of one sample, an input of two, and the reference of one.
  EXPECT_EQ(samples("data.validation at 6 h"), (std::pair<int64_t, int64_t>(48 - 4, 48)));
  EXPECT_EQ(samples("data.test at 6 h").first, 24);
  EXPECT_EQ(samples("data.test at 6 h").second, 48);
  EXPECT_EQ(samples("data.test at 12 h"), samples("data.test at 6 h"))
      << "every lead time is scored on the same targets";
  EXPECT_EQ(record["training"]["t"]["values"], 192 * kPoints);
  const auto lines = look().report();
  EXPECT_EQ(
      lines.at(0),
      "data.train: 180 of 192 samples; 12 dropped, of which the data lack an input, target or "
      "reference hour");
}

TEST_F(WeatherDatas, TakeScalesFromAllHoursOfTheTrainingPeriod) {
  write(every(1, 12 * 24),
        [](double hour, int64_t) { return 281 + 4 * std::cos(2 * std::numbers::pi * hour / 24); });
  const auto e = experiment({"data.train.begin=2019-03-02"});
  const auto scales = WeatherData(e, grid_).scales(e);
  EXPECT_NEAR(scales.tendency()[0].item<double>(), std::numbers::sqrt2, 1e-5);
}

TEST_F(WeatherDatas, GiveTheSameScalesOnAnyNumberOfRanksAndToTheRefit) {
  write(every(1, 12 * 24), wave);
  const auto e = experiment({"train.refit=true"});
  auto again = e;
  again.train = refit_period(e, Calendar::standard);
  const WeatherData alone(e, grid_);
  EXPECT_NE(alone.scales(again).normalizer().tensors().at("add")[0].item<double>(),
            alone.scales(e).normalizer().tensors().at("add")[0].item<double>());
  for (const int model : {1, 2}) {
    run_ranks(4, [&](Communicator& world) {
      const ProcessGrid grid(world, model);
      const WeatherData shared(e, grid);
      for (const auto& each : {e, again}) {
        const auto a = alone.scales(each), b = shared.scales(each);
        EXPECT_TRUE(at::equal(a.tendency(), b.tendency()));
        for (const char* key : {"mul", "add"}) {
          EXPECT_TRUE(
              at::equal(a.normalizer().tensors().at(key), b.normalizer().tensors().at(key)));
        }
      }
    });
  }
}

TEST_F(WeatherDatas, RefuseARefitOnTheTestPeriod) {
  write(every(1, 12 * 24), wave);
  const std::vector<std::string> between{"data.test={begin: 2019-03-09, end: 2019-03-11}",
                                         "data.validation={begin: 2019-03-11, end: 2019-03-13}"};
  look(between);
  auto refitted = between;
  refitted.emplace_back("train.refit=true");
  EXPECT_CONTAINS(
      refused<UsageError>(refitted),
      "train.refit: trains again on 2019-03-01T00:00 to 2019-03-13T00:00, and 48 of its "
      "target times are of data.test, the first 2019-03-09T00:00");
}

TEST(RefitPeriod, SpansTrainingAndValidationWhicheverComesFirst) {
  Experiment e;
  e.train = {.begin = "2019-03-05", .end = "2019-03-09"};
  e.validation = {.begin = "2019-03-01", .end = "2019-03-05"};
  EXPECT_EQ(refit_period(e, Calendar::standard).begin, "2019-03-01");
  EXPECT_EQ(refit_period(e, Calendar::standard).end, "2019-03-09");
  std::swap(e.train, e.validation);
  EXPECT_EQ(refit_period(e, Calendar::standard).begin, "2019-03-01");
  EXPECT_EQ(refit_period(e, Calendar::standard).end, "2019-03-09");
}

TEST(RefitPeriod, ComparesTimesAndNotTheirText) {
  Experiment e;
  e.train = {.begin = "2019-3-1", .end = "2019-10-1"};
  e.validation = {.begin = "2019-10-1", .end = "2019-11-1"};
  EXPECT_EQ(refit_period(e, Calendar::standard).begin, "2019-3-1");
  EXPECT_EQ(refit_period(e, Calendar::standard).end, "2019-11-1");
  e.validation = {.begin = "2018-02-30", .end = "2018-3-1"};
  EXPECT_EQ(refit_period(e, Calendar::day_360).begin, "2018-02-30");
}

TEST_F(WeatherDatas, RefuseAPeriodWithoutASampleByItsName) {
  write(every(1, 10 * 24), wave);
  EXPECT_CONTAINS(refused<UsageError>(), "data.test: no time of ");
  write({0, 6, 12, 18, 24, 30, 216, 222, 228, 234, 252}, wave);
  // Of the test period there is a time, which has no input before it.
  EXPECT_CONTAINS(refused<DataError>(), "data.test: no sample from 2019-03-11T00:00");
}

TEST_F(WeatherDatas, NameTheHourForWantOfWhichThereIsNoSample) {
  write(every(6, 12 * 4), wave);
  EXPECT_CONTAINS(refused<DataError>({"data.input_hours=[-7, 0]"}),
                  "data.train: no sample from 2019-03-01T00:00 to 2019-03-09T00:00: of 31 analysis "
                  "times none has its input hour -7 (data.input_hours) in the data; the data");
  EXPECT_CONTAINS(refused<DataError>({"data.step_hours=5", "data.input_hours=[-5, 0]"}),
                  "none has its target hour 5 (steps of data.step_hours) in the data");
  // A lead time that is longer than the data before the period's end.
  EXPECT_CONTAINS(refused<DataError>({"test.lead_hours=[6, 300]"}),
                  "data.test at 300 h: no sample from 2019-03-11T00:00");
}

TEST_F(WeatherDatas, ScoreForecastsThatBeginBeforeTheirPeriod) {
  write(every(6, 12 * 4), wave);
  const auto record = look({"test.lead_hours=[6, 12, 24, 72]"}).record()["samples"];
  for (const char* lead : {"6", "12", "24", "72"}) {
    const auto& found = record[fmt::format("data.test at {} h", lead)];
    EXPECT_EQ(found["used"], 8) << "eight targets, longer than the period or not";
    EXPECT_EQ(found["whole"], 8);
  }
}

TEST_F(WeatherDatas, RefuseABatchOfMoreThanThereAreBeforeAnythingIsRead) {
  // The first field that would be read cannot be.
  write(every(6, 12 * 4), [](double hour, int64_t p) { return hour == 0 ? kNan : wave(hour, p); });
  EXPECT_CONTAINS(refused<UsageError>({"train.batch=31"}),
                  "train.batch: Sampler: a step takes 31 samples (1 rank x 31), but there are only "
                  "30 in data.train");
  EXPECT_CONTAINS(refused<DataError>({"train.batch=30"}), "missing");
  const auto e = experiment({"train.batch=16"});
  run_ranks(2, [&](Communicator& world) {
    const ProcessGrid grid(world, 1);
    EXPECT_CONTAINS(test::message_of<UsageError>([&] { WeatherData(e, grid); }),
                    "a step takes 32 samples (2 ranks x 16)");
  });
}

TEST_F(WeatherDatas, RefuseAScoredPeriodThatIsMissingAltogether) {
  for (const auto& [first, split] : {std::pair(192, "validation"), {240, "test"}}) {
    write(every(6, 12 * 4), [first = first](double hour, int64_t p) {
      return hour >= first && hour < first + 48 ? kNan : wave(hour, p);
    });
    const auto message = refused<DataError>({"data.allow_missing=true"});
    EXPECT_CONTAINS(message, fmt::format("data.{} at 6 h: every value of t is missing at all 8 "
                                         "target times, 2019-03-",
                                         split));
    EXPECT_CONTAINS(message, "so there is nothing to score");
    // What else is forecast can be scored.
    const auto lines = look({"data.allow_missing=true", "data.variables=[t, u]"}).warnings();
    const auto said = [&, split = split](const std::string& line) {
      return line.find(fmt::format("data.{} at 6 h: every value of t is missing", split)) == 0;
    };
    EXPECT_EQ(std::count_if(lines.begin(), lines.end(), said), 1);
  }
}

TEST_F(WeatherDatas, WarnWhereFloat32DoesNotTellValuesApart) {
  const auto at = [&](double level) {
    write(every(6, 12 * 4), [=](double hour, int64_t p) { return level + wave(hour, p) - 281; });
    return look().warnings();
  };
  EXPECT_EQ(at(281), std::vector<std::string>{});
  EXPECT_EQ(at(1e5), std::vector<std::string>{}) << "steps of 0.008";
  const auto warnings = at(1e7);
  ASSERT_EQ(warnings.size(), 1);
  EXPECT_CONTAINS(warnings[0], "'t' has a deviation of 2.9");
  EXPECT_CONTAINS(warnings[0],
                  "among values up to 1e+07, where float32, as which it is read, has "
                  "steps of 1: what is smaller is lost");
}

TEST_F(WeatherDatas, SayWhereTheMeshIsFinerThanTheGrid) {
  write(every(6, 12 * 4), wave);
  const auto warnings = look({"graph.hidden_level=4"}).warnings();
  ASSERT_EQ(warnings.size(), 1);
  EXPECT_CONTAINS(warnings[0], "graph.hidden_level: 4: about ");
  EXPECT_CONTAINS(warnings[0], "more than the 6 data points");
  // What would take minutes is refused.
  EXPECT_CONTAINS(refused<UsageError>({"graph.hidden_level=10"}), "graph.hidden_level: 10: about");
}

TEST_F(WeatherDatas, RefuseWhatIsMissingInAScoredPeriodBeforeTheFirstStep) {
  write(every(1, 12 * 24),
        [](double hour, int64_t p) { return hour == 250 && p == 2 ? kNan : wave(hour, p); });
  const auto message = refused<DataError>();
  EXPECT_CONTAINS(message, "'t'");
  EXPECT_CONTAINS(message, "2019-03-11T10:00");
}

TEST_F(WeatherDatas, RefuseInfinitiesInAScoredPeriodBeforeTheFirstStep) {
  write(every(1, 12 * 24), [](double hour, int64_t p) {
    return hour == 200 && p == 2 ? std::numeric_limits<double>::infinity() : wave(hour, p);
  });
  EXPECT_CONTAINS(refused<DataError>(), "2019-03-09T08:00");
}

TEST_F(WeatherDatas, SayWhereAMissingTargetWantsAMask) {
  write(every(1, 12 * 24), [](double hour, int64_t p) { return p == 2 ? kNan : wave(hour, p); });
  const auto message = refused<DataError>({"data.allow_missing=true"});
  EXPECT_CONTAINS(message, "t is missing at 2019-03-01T12:00");
  EXPECT_CONTAINS(message, "set loss.mask_missing");
  look({"data.allow_missing=true", "loss.mask_missing=true"});
  // What is no target may be missing: the first hours have no input before them.
  write(every(1, 12 * 24), [](double hour, int64_t p) { return hour < 12 ? kNan : wave(hour, p); });
  look({"data.allow_missing=true"});
}

TEST_F(WeatherDatas, RefuseWhatIsMissingWhereTheRefitAloneTrains) {
  write(every(1, 12 * 24),
        [](double hour, int64_t p) { return hour == 200 && p == 2 ? kNan : wave(hour, p); });
  look({"data.allow_missing=true"});
  EXPECT_CONTAINS(
      refused<DataError>({"data.allow_missing=true", "train.refit=true"}),
      "t is missing at 2019-03-09T08:00, which is trained to be forecast by train.refit; set");
  look({"data.allow_missing=true", "train.refit=true", "loss.mask_missing=true"});
}

TEST_F(WeatherDatas, RefuseAVariableWithoutAValueOnEveryRank) {
  write(every(1, 12 * 24),
        [](double hour, int64_t p) { return hour < 192 ? kNan : wave(hour, p); });
  const auto e = experiment({"data.allow_missing=true", "loss.mask_missing=true"});
  run_ranks(2, [&](Communicator& world) {
    const ProcessGrid grid(world, 1);
    EXPECT_CONTAINS(test::message_of<DataError>([&] { WeatherData(e, grid); }),
                    "'t' has no value at the 192 times from 2019-03-01T00:00");
  });
}

TEST_F(WeatherDatas, WarnOfValuesThatAreNoWeather) {
  write(every(1, 12 * 24), [](double hour, int64_t p) { return p == 1 ? -999 : wave(hour, p); });
  const auto warnings = look().warnings();
  ASSERT_EQ(warnings.size(), 1);
  EXPECT_CONTAINS(warnings[0], "values from -999 to -999");
  write(every(1, 12 * 24), [](double hour, int64_t p) { return p == 1 ? 1e10 : wave(hour, p); });
  const auto large = look().warnings();
  ASSERT_EQ(large.size(), 1) << "nothing of what float32 does not resolve";
  EXPECT_CONTAINS(large[0], "values from 1e+10 to 1e+10");
}

TEST_F(WeatherDatas, RefuseStepsOfMonthsByThatName) {
  std::vector<double> months;
  for (int64_t m = 0; m < 24; ++m) {
    const CalendarDate date{.year = 2019 + (2 + m) / 12,
                            .month = static_cast<int>((2 + m) % 12 + 1)};
    months.push_back(
        static_cast<double>(to_seconds(date, Calendar::standard) - parse_time("2019-03-01")) /
        3600);
  }
  write(months, wave);
  EXPECT_CONTAINS(refused<DataError>(), "are a month apart, and months have no fixed length");
}

TEST_F(WeatherDatas, GoWithoutTheDayBeforeWhereTheDataHaveNone) {
  write(every(5, 57), wave);
  const auto data = look({"data.step_hours=5", "data.input_hours=[-5, 0]",
                          "validation.lead_hours=[5]", "test.lead_hours=[5]"});
  const auto warnings = data.warnings();
  ASSERT_EQ(warnings.size(), 2);
  EXPECT_CONTAINS(warnings[0], "data.validation at 5 h: the data have no field");
}

TEST(LastKnownDay, IsNoFutureOfTheAnalysis) {
  const std::vector<std::pair<int64_t, int64_t>> known{{1, -23},  {6, -18}, {24, 0},   {25, -23},
                                                       {30, -18}, {48, 0},  {54, -18}, {120, 0}};
  for (const auto& [lead, hour] : known) EXPECT_EQ(last_known_day(lead), hour) << lead;
}

}  // namespace
}  // namespace isobar::weather_data_test
