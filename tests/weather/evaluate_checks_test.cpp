// SPDX-License-Identifier: Apache-2.0
#include "weather/evaluate_checks.hpp"

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

namespace isobar::evaluate_checks_test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
using Lines = std::vector<std::string>;

constexpr const char* kYaml = R"(
run: {name: test}
data:
  path: a.nc
  variables: [t]
  input_hours: [-6, 0]
  train: {begin: 2019-03-01, end: 2019-03-03}
  validation: {begin: 2019-03-03, end: 2019-03-04}
  test: {begin: 2019-03-04, end: 2019-03-05}
graph: {hidden_level: 3}
model: {channels: 8, layers: 1, bounding: {t: relu}}
optimizer: {learning_rate: 1.0e-3}
train: {steps: 100, batch: 2}
)";

/// What is said of an evaluation with these overrides.
Lines said(const Lines& overrides, const CheckpointScoring& scoring = {}) {
  const auto yaml = read_experiment(Config::parse(kYaml, "test.yaml")).yaml;
  return check_changes(read_trained_run(yaml, {}), scoring,
                       Config::parse(yaml, "checkpoint", overrides));
}

std::string refused(const Lines& overrides) {
  return test::message_of<UsageError>([&] { said(overrides); });
}

TEST(CheckChanges, AreSilentOfWhatIsUsedOrAsItWas) {
  EXPECT_EQ(said({}), Lines{});
  EXPECT_EQ(said({"data.path=b.nc", "model.ranks=2", "comm.timeout_s=5", "train.batch=1",
                  "data.test={begin: 2019-04-01, end: 2019-04-02}", "test.lead_hours=[6, 12]"}),
            Lines{});
  EXPECT_EQ(said({"train.steps=100", "data.step_hours=6", "data.variables=[t]"}), Lines{});
}

TEST(CheckChanges, NameKeysThatPlayNoPart) {
  EXPECT_EQ(said({"train.steps=7", "seed=3"}),
            (Lines{"seed=3 plays no part in these scores",
                   "train.steps=7 plays no part in these scores"}));
  EXPECT_EQ(said({"validation.lead_hours=[12]"}).size(), 1) << "the test period is scored";
  EXPECT_EQ(said({"validation.lead_hours=[12]"}, {.split = "validation"}), Lines{});
  EXPECT_EQ(said({"test.lead_hours=[12]"}, {.rollout = 2}).size(), 1);
  EXPECT_EQ(said({"data.train.begin=2019-03-02"}), Lines{}) << "of the climatology";
  EXPECT_EQ(said({"data.train.begin=2019-03-02"}, {.climatology = "none"}).size(), 1);
  EXPECT_EQ(said({"train.rollout={start: 1}"}),
            Lines{"train.rollout.start=1 plays no part in these scores"});
  EXPECT_EQ(said({"data.select={level: 850}"}),
            Lines{"data.select.level=850: the model was trained without it"})
      << "another level is another variable";
  EXPECT_EQ(said({"graph.hidden_level=4"}),
            Lines{"graph.hidden_level=4: the model was trained with 3"});
  EXPECT_EQ(
      said({"model.bounding={t: [0, 1]}", "optimizer.average_decay=0.5", "train.precision=bf16"}),
      (Lines{"model.bounding.t=[0, 1]: the model was trained with relu",
             "optimizer.average_decay=0.5: the model was trained with 0",
             "train.precision=bf16: the model was trained with float32"}));
}

TEST(CheckChanges, RefuseAnotherModel) {
  EXPECT_EQ(refused({"data.step_hours=12"}),
            "evaluate: data.step_hours=12: the model was trained with 6, and is scored as what it "
            "is; leave that out");
  for (const char* change :
       {"data.input_hours=[-12, 0]", "data.variables=[u]", "data.normalization={t: std}",
        "data.forcings=[insolation]", "model.channels=16", "loss.scale_by_tendency=false"}) {
    EXPECT_EQ(refused({change}).find("evaluate: "), 0) << change;
  }
}

class Overlaps : public testing::Test {
 protected:
  Overlaps() {
    test::WeatherFile weather{.hours = std::vector<double>(5 * 24)};
    std::iota(weather.hours.begin(), weather.hours.end(), 0);
    test::write_weather(folder_ / "a.nc", weather);
  }

  Lines found(const char* begin, const char* end,
              const std::map<std::string, std::string>& metadata = {},
              const std::string& split = "test") const {
    const auto dataset = std::make_shared<const Dataset>(
        DatasetOptions{.paths = {(folder_ / "a.nc").string()}, .variables = {"t"}});
    const SampleOptions hours{.input_hours = {0}, .target_hours = {6, 12}, .period_hours = {12}};
    const auto samples = std::make_shared<const SampleSet>(
        dataset, Normalizer({"t"}, {{.mean = 500, .stdev = 2}}), hours, parse_period(begin, end));
    return check_overlap(read_trained_run(yaml_, metadata), split, {samples});
  }

  test::TemporaryFolder folder_;
  std::string yaml_ = kYaml;
};

TEST_F(Overlaps, AreOfTargetTimesThatWereTrainedOn) {
  EXPECT_EQ(found("2019-03-04", "2019-03-05"), Lines{}) << "though forecasts begin before";
  EXPECT_EQ(found("2019-03-02T20", "2019-03-05"),
            Lines{"data.test at 12 h: 4 of 52 target times are of the period that the model was "
                  "trained on, 2019-03-01 to 2019-03-03, the first 2019-03-02T20:00; scores there "
                  "say little of other times"});
}

TEST_F(Overlaps, AreOfTheRefitsPeriodToo) {
  const std::map<std::string, std::string> refit{{"trained_from", "2019-03-01"},
                                                 {"trained_until", "2019-03-04"}};
  EXPECT_EQ(found("2019-03-03", "2019-03-04", {}, "validation"), Lines{});
  EXPECT_EQ(found("2019-03-03", "2019-03-04", refit, "validation").size(), 1);
}

/// Checkpoints of before do not say what they were trained on.
TEST_F(Overlaps, AreOfWhatARefitMayHaveTrainedOn) {
  yaml_.replace(yaml_.find("batch: 2"), 8, "batch: 2, refit: true");
  const auto lines = found("2019-03-03", "2019-03-04", {}, "validation");
  ASSERT_EQ(lines.size(), 1);
  EXPECT_NE(lines[0].find("24 of 24 target times are of what may have been trained on by "
                          "train.refit, 2019-03-03 to 2019-03-04"),
            std::string::npos)
      << lines[0];
  const std::map<std::string, std::string> first_fit{{"trained_from", "2019-03-01"},
                                                     {"trained_until", "2019-03-03"}};
  EXPECT_EQ(found("2019-03-03", "2019-03-04", first_fit, "validation"), Lines{});
}

TEST_F(Overlaps, AreOfTheTimesThatChoseTheCheckpoint) {
  const auto lines = found("2019-03-03", "2019-03-04");
  ASSERT_EQ(lines.size(), 1);
  EXPECT_NE(lines[0].find("24 of 24 target times are of the period by which the checkpoint was"),
            std::string::npos);
}

TEST(CheckScores, RefuseALeadTimeWithoutAny) {
  const VariableScore good{.variable = "t", .rmse = 1};
  const VariableScore missing{.variable = "u", .rmse = kNan, .known = 0};
  const VariableScore wild{.variable = "v", .rmse = kNan};
  EXPECT_EQ(check_scores({{6, 10, {good, missing, wild}}}, "data.test"),
            (Lines{"data.test at 6 h: every value of 'u' is missing at the target times; it is not "
                   "scored",
                   "data.test at 6 h: forecasts of 'v' are no finite numbers"}));
  EXPECT_EQ(test::message_of<DataError>([&] {
              check_scores({{6, 10, {good}}, {12, 8, {missing}}}, "data.test");
            }),
            "data.test at 12 h: every value is missing at the target times of all 8 samples, so "
            "there is nothing to score; choose another period");
}

}  // namespace
}  // namespace isobar::evaluate_checks_test
