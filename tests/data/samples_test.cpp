// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/samples.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <isobar/data/forcings.hpp>
#include <isobar/data/sample_use.hpp>
#include <numeric>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::samples_test {
namespace {

using test::message_of;

class Samples : public testing::Test {
 protected:
  /// Hours 0 to 71 from 2019-03-01 with hour 40 missing, two variables.
  Samples() {
    test::WeatherFile weather{.variables = {"t", "u"}, .hours = std::vector<double>(72)};
    std::iota(weather.hours.begin(), weather.hours.end(), 0);
    weather.hours.erase(weather.hours.begin() + 40);
    test::write_weather(folder_ / "a.nc", weather);
    dataset_ = std::make_shared<Dataset>(
        DatasetOptions{.paths = {folder_ / "a.nc"}, .variables = {"t", "u"}});
  }

  static int64_t hour(int64_t h) { return parse_time("2019-03-01") + 3600 * h; }
  static Period hours(int64_t begin, int64_t end) { return {hour(begin), hour(end)}; }

  std::vector<int64_t> analysis_hours(const SampleOptions& options, const Period& period) const {
    std::vector<int64_t> result;
    const SampleSet set(dataset_, normalizer_, options, period);
    for (const int64_t time : set.times()) {
      result.push_back((time - hour(0)) / 3600);
    }
    return result;
  }

  test::TemporaryFolder folder_;
  std::shared_ptr<const Dataset> dataset_;
  Normalizer normalizer_{{"t", "u"}, {{.mean = 500, .stdev = 2}, {.mean = 1500, .stdev = 4}}};
  SampleOptions small_{.input_hours = {-6, 0}, .target_hours = {6}};
};

TEST_F(Samples, TakeTargetsFromThePeriodAndInputsFromBeforeIt) {
  // Targets at 20, 21, 22, 23; inputs from hour 8 on.
  EXPECT_EQ(analysis_hours(small_, hours(20, 24)), (std::vector<int64_t>{14, 15, 16, 17}));
}

TEST_F(Samples, NeedAllTheirHoursInTheFile) {
  // 40 is missing: not as target of 34, input of 40 and 46.
  EXPECT_EQ(analysis_hours(small_, hours(38, 54)),
            (std::vector<int64_t>{32, 33, 35, 36, 37, 38, 39, 41, 42, 43, 44, 45, 47}));
  EXPECT_EQ(analysis_hours(small_, hours(0, 14)), (std::vector<int64_t>{6, 7}));
  EXPECT_EQ(analysis_hours(small_, hours(70, 100)), (std::vector<int64_t>{64, 65}));
  SampleOptions reference = small_;
  reference.reference_hours = {-18};
  EXPECT_EQ(analysis_hours(reference, hours(0, 26)), (std::vector<int64_t>{18, 19}));
}

TEST_F(Samples, AreCountedBesideThoseOfWholeData) {
  const auto use = [&](const SampleOptions& options, const Period& period) {
    const auto found = sample_use(SampleSet(dataset_, normalizer_, options, period), period);
    return std::pair<int64_t, int64_t>(found.used, found.whole);
  };
  EXPECT_EQ(use(small_, hours(20, 24)), (std::pair<int64_t, int64_t>(4, 4)));
  EXPECT_EQ(use(small_, hours(0, 14)), (std::pair<int64_t, int64_t>(2, 14)))
      << "no input before the file begins";
  EXPECT_EQ(use(small_, hours(38, 54)), (std::pair<int64_t, int64_t>(13, 16)))
      << "an hour is missing";
  EXPECT_EQ(use(small_, hours(70, 100)), (std::pair<int64_t, int64_t>(2, 30)))
      << "the file ends before the period";
  const SampleOptions two{.input_hours = {0}, .target_hours = {6, 12}};
  EXPECT_EQ(use(two, hours(12, 20)), (std::pair<int64_t, int64_t>(2, 2)));
}

TEST_F(Samples, NeedAllTargetsWithinThePeriod) {
  const SampleOptions two{.input_hours = {0}, .target_hours = {6, 12}};
  EXPECT_EQ(analysis_hours(two, hours(12, 20)), (std::vector<int64_t>{6, 7}));
  const SampleSet set(dataset_, normalizer_, two, hours(12, 20));
  EXPECT_EQ(set.target_times(), (std::vector<int64_t>{hour(12), hour(13), hour(18), hour(19)}));
}

TEST_F(Samples, BelongToThePeriodOfTheHoursThatCount) {
  const SampleOptions last{.input_hours = {0}, .target_hours = {6, 12}, .period_hours = {12}};
  EXPECT_EQ(analysis_hours(last, hours(12, 20)), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  const SampleSet set(dataset_, normalizer_, last, hours(12, 20));
  EXPECT_EQ(set.target_times().front(), hour(12));
  EXPECT_EQ(set.target_times().back(), hour(19));
  const auto use = sample_use(set, hours(12, 20));
  EXPECT_EQ(use.used, 8);
  EXPECT_EQ(use.whole, 8);
  EXPECT_EQ(set.get({0}).target.size(1), 2) << "all steps on the way";
  EXPECT_NE(message_of<UsageError>([&] {
              SampleSet(dataset_, normalizer_, {.period_hours = {7}}, hours(0, 72));
            }).find("hour 7 of period_hours is no target hour"),
            std::string::npos);
}

TEST_F(Samples, HoldTheFieldsOfTheirHours) {
  SampleOptions options{.input_hours = {-6, 0},
                        .target_hours = {1, 6},
                        .reference_hours = {-18},
                        .forcings = {"cos_latitude", "insolation", "sin_local_time"}};
  const SampleSet set(dataset_, normalizer_, options, hours(0, 72));
  const Batch batch = set.get({3, 0});
  EXPECT_EQ(batch.times, (std::vector<int64_t>{set.times()[3], set.times()[0]}));
  ASSERT_EQ(batch.state.sizes(), (std::vector<int64_t>{2, 2, 6, 2}));
  ASSERT_EQ(batch.forcing.sizes(), (std::vector<int64_t>{2, 4, 6, 3}));
  ASSERT_EQ(batch.target.sizes(), (std::vector<int64_t>{2, 2, 6, 2}));
  ASSERT_EQ(batch.reference.sizes(), (std::vector<int64_t>{2, 1, 6, 2}));
  const auto field = [&](int64_t h) {
    return normalizer_.normalize(dataset_->read(*dataset_->find(batch.times[0] + 3600 * h)));
  };
  EXPECT_TRUE(at::equal(batch.state[0][0], field(-6)));
  EXPECT_TRUE(at::equal(batch.state[0][1], field(0)));
  EXPECT_TRUE(at::equal(batch.target[0][0], field(1)));
  EXPECT_TRUE(at::equal(batch.target[0][1], field(6)));
  EXPECT_TRUE(at::equal(batch.reference[0][0], field(-18)));
  const at::Tensor last = compute_forcings(options.forcings, dataset_->point_latitudes(),
                                           dataset_->point_longitudes(), batch.times[1] + 3600 * 6);
  EXPECT_TRUE(at::equal(batch.forcing[1][3], last));
}

TEST_F(Samples, OfSomeRowsAreThoseOfAllPointsCutToThem) {
  SampleOptions options{.input_hours = {-6, 0},
                        .target_hours = {1, 6},
                        .reference_hours = {-18},
                        .forcings = forcing_names()};
  const Batch all = SampleSet(dataset_, normalizer_, options, hours(0, 72)).get({3, 0});
  for (const std::vector<int64_t>& rows :
       {std::vector<int64_t>{4}, {2, 3}, {5, 1, 0}, {0, 1, 2, 3, 4, 5}, {}}) {
    options.rows = at::tensor(rows, at::kLong);
    const SampleSet set(dataset_, normalizer_, options, hours(0, 72));
    const Batch batch = set.get({3, 0});
    const auto cut = [&](const at::Tensor& tensor) { return tensor.index_select(2, options.rows); };
    EXPECT_TRUE(at::equal(batch.state, cut(all.state))) << options.rows;
    EXPECT_TRUE(at::equal(batch.forcing, cut(all.forcing))) << options.rows;
    EXPECT_TRUE(at::equal(batch.target, cut(all.target))) << options.rows;
    EXPECT_TRUE(at::equal(batch.reference, cut(all.reference))) << options.rows;
    EXPECT_EQ(batch.times, all.times);
  }
}

TEST_F(Samples, ComputeForcingsWhereThePointsAreSaidToLie) {
  SampleOptions options = small_;
  options.forcings = {"cos_latitude", "insolation"};
  options.latitudes = at::tensor({80., 40., 10., -10., -40., -80.}, at::kDouble);
  options.longitudes = at::tensor({0., 60., 120., 180., 240., 300.}, at::kDouble);
  for (const auto& rows : {at::Tensor(), at::tensor({4, 1}, at::kLong)}) {
    options.rows = rows;
    const Batch batch = SampleSet(dataset_, normalizer_, options, hours(0, 72)).get({0});
    auto wanted = compute_forcings(options.forcings, options.latitudes, options.longitudes,
                                   batch.times[0] + 3600 * 6);
    if (rows.defined()) wanted = wanted.index_select(0, rows);
    EXPECT_TRUE(at::equal(batch.forcing[0][2], wanted));
  }
  options.longitudes = options.longitudes.narrow(0, 0, 5);
  EXPECT_NE(message_of<UsageError>([&] {
              SampleSet(dataset_, normalizer_, options, hours(0, 72));
            }).find("must be given for all 6 points"),
            std::string::npos);
  options.longitudes = at::Tensor();
  EXPECT_THROW(SampleSet(dataset_, normalizer_, options, hours(0, 72)), UsageError);
}

TEST_F(Samples, ShowForcingVariablesBesideTheForcings) {
  SampleOptions options{.input_hours = {-6, 0},
                        .target_hours = {6},
                        .reference_hours = {-18},
                        .forcings = {"insolation"}};
  const Batch both = SampleSet(dataset_, normalizer_, options, hours(0, 72)).get({3, 0});
  for (const int64_t seen : {0, 1}) {
    options.forcing_variables = {seen == 0 ? "t" : "u"};
    const SampleSet set(dataset_, normalizer_, options, hours(0, 72));
    EXPECT_EQ(set.variables(), std::vector<std::string>{seen == 0 ? "u" : "t"});
    EXPECT_EQ(set.unit().item<double>(), seen == 0 ? 4 : 2);
    const Batch batch = set.get({3, 0});
    const auto forecast = [&](const at::Tensor& all) { return all.narrow(-1, 1 - seen, 1); };
    EXPECT_TRUE(at::equal(batch.state, forecast(both.state)));
    EXPECT_TRUE(at::equal(batch.target, forecast(both.target)));
    EXPECT_TRUE(at::equal(batch.reference, forecast(both.reference)));
    const auto fields = at::cat({both.state, both.target}, 1).narrow(-1, seen, 1);
    EXPECT_TRUE(at::equal(batch.forcing, at::cat({both.forcing, fields}, -1)));
  }
}

TEST_F(Samples, RefuseForcingVariablesThatLeaveNothingToForecast) {
  SampleOptions options = small_;
  options.forcing_variables = {"t", "u"};
  EXPECT_THROW(SampleSet(dataset_, normalizer_, options, hours(0, 72)), UsageError);
  options.forcing_variables = {"t", "t"};
  EXPECT_THROW(SampleSet(dataset_, normalizer_, options, hours(0, 72)), UsageError);
  options.forcing_variables = {"lsm"};
  EXPECT_THROW(SampleSet(dataset_, normalizer_, options, hours(0, 72)), UsageError);
}

TEST_F(Samples, WithFewerTargetsAreTheFirstOnesOfAll) {
  const SampleOptions options{
      .input_hours = {0}, .target_hours = {6, 12, 18}, .forcings = {"insolation"}};
  const SampleSet set(dataset_, normalizer_, options, hours(0, 72));
  const Batch all = set.get({3, 0});
  const Batch two = set.get({3, 0}, 2);
  EXPECT_TRUE(at::equal(two.state, all.state));
  EXPECT_TRUE(at::equal(two.target, all.target.narrow(1, 0, 2)));
  EXPECT_TRUE(at::equal(two.forcing, all.forcing.narrow(1, 0, 3)));
  EXPECT_THROW(set.get({0}, 0), UsageError);
  EXPECT_THROW(set.get({0}, 4), UsageError);
}

TEST_F(Samples, ReadNoHourOfATargetThatIsNotAskedFor) {
  test::write_weather(folder_ / "large.nc", test::large_weather(15));
  const auto open = [&] {
    return std::make_shared<Dataset>(
        DatasetOptions{.paths = {folder_ / "large.nc"}, .variables = {"t"}});
  };
  const Normalizer normalizer({"t"}, {{.mean = 500, .stdev = 2}});
  const SampleOptions options{.input_hours = {0}, .target_hours = {6, 12}};
  const SampleSet set(open(), normalizer, options, hours(0, 72));
  const Batch all = SampleSet(open(), normalizer, options, hours(0, 72)).get({0, 1});
  set.get({0}, 1);
  set.get({1}, 2);
  test::write_file(folder_ / "large.nc", "");  // what is read from it now is something else
  const auto second = [&](int64_t index) { return set.get({index}, 2).target[0][1]; };
  EXPECT_TRUE(at::equal(second(1), all.target[1][1])) << "it is in memory";
  EXPECT_FALSE(at::equal(second(0), all.target[0][1])) << "it was read before it was asked for";
}

TEST_F(Samples, OfRowsThatAreNoPointsAreRefused) {
  SampleOptions options = small_;
  options.rows = at::tensor({6}, at::kLong);
  EXPECT_THROW(SampleSet(dataset_, normalizer_, options, hours(0, 72)), UsageError);
}

TEST_F(Samples, LeaveTheReferenceUndefinedWhereNoneIsAsked) {
  const Batch batch = SampleSet(dataset_, normalizer_, small_, hours(0, 72)).get({0});
  EXPECT_FALSE(batch.reference.defined());
  EXPECT_EQ(batch.forcing.sizes(), (std::vector<int64_t>{1, 3, 6, 0}));
}

TEST_F(Samples, RefuseWhatMakesNoSample) {
  EXPECT_THROW(SampleSet(dataset_, normalizer_, {.input_hours = {}}, hours(0, 72)), UsageError);
  EXPECT_THROW(SampleSet(dataset_, normalizer_, {.target_hours = {}}, hours(0, 72)), UsageError);
  EXPECT_THROW(SampleSet(dataset_, normalizer_, {.forcings = {"sun"}}, hours(0, 72)), UsageError);
  const Normalizer other = Normalizer::from_tensors({"u", "t"}, normalizer_.tensors());
  EXPECT_THROW(SampleSet(dataset_, other, small_, hours(0, 72)), UsageError);
  const std::string message =
      message_of<DataError>([&] { SampleSet(dataset_, normalizer_, small_, hours(100, 200)); });
  EXPECT_NE(message.find("no sample from 2019-03-05T04:00 to 2019-03-09T08:00"), std::string::npos)
      << message;
  EXPECT_NE(message.find("none has its target hour 6 in the period"), std::string::npos) << message;
  auto early = small_;
  early.input_hours = {-80, 0};
  EXPECT_NE(
      message_of<DataError>([&] {
        SampleSet(dataset_, normalizer_, early, hours(0, 72));
      }).find("of 64 analysis times none has its input hour -80 (data.input_hours) in the data"),
      std::string::npos);
  EXPECT_THROW(SampleSet(dataset_, normalizer_, small_, hours(0, 72)).get({1000}), UsageError);
}

TEST_F(Samples, SplitByTime) {
  const Split split =
      make_split(dataset_, normalizer_, small_,
                 {.train = hours(0, 36), .validation = hours(36, 50), .test = hours(50, 72)});
  EXPECT_EQ(split.train.target_times().back(), hour(35));
  EXPECT_EQ(split.validation.target_times().front(), hour(36));
  EXPECT_EQ(split.test.target_times().front(), hour(50));
}

TEST_F(Samples, RefuseASplitThatSharesTargets) {
  const auto refused = [&](const SplitPeriods& periods) {
    return message_of<UsageError>([&] { make_split(dataset_, normalizer_, small_, periods); });
  };
  EXPECT_EQ(refused({.train = hours(0, 36), .validation = hours(50, 60), .test = hours(35, 50)}),
            "split: train and test share 1 target times, the first 2019-03-02T11:00; make "
            "their periods disjoint");
  EXPECT_EQ(refused({.train = hours(0, 36), .validation = hours(35, 50), .test = hours(50, 60)})
                .substr(0, 44),
            "split: train and validation share 1 target t");
  EXPECT_EQ(refused({.train = hours(0, 36), .validation = hours(36, 50), .test = hours(49, 60)})
                .substr(0, 43),
            "split: validation and test share 1 target t");
}

TEST(Period, ComesFromTextWithoutItsEnd) {
  const Period period = parse_period("2019-03-01", "2019-03-02");
  EXPECT_TRUE(period.contains(parse_time("2019-03-01")));
  EXPECT_FALSE(period.contains(parse_time("2019-03-02")));
  EXPECT_EQ(format_period(period), "2019-03-01T00:00 to 2019-03-02T00:00");
  EXPECT_EQ(indices_within({0, period.begin, period.end - 1, period.end}, period),
            (std::vector<int64_t>{1, 2}));
  EXPECT_THROW(parse_period("2019-03-02", "2019-03-02"), UsageError);
}

}  // namespace
}  // namespace isobar::samples_test
