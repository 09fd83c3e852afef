// SPDX-License-Identifier: Apache-2.0
// Experiments with variables of every role, from a file to scores.
#include <isobar/weather/weather_setup.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/data/forcings.hpp>
#include <isobar/graph/grid.hpp>
#include <isobar/train/checkpoint.hpp>
#include <isobar/train/scoring.hpp>
#include <isobar/weather/training_run.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>

namespace isobar::weather_setup_test {
namespace {

constexpr int64_t kTimes = 24, kLatitudes = 8, kLongitudes = 10;
constexpr int64_t kPoints = kLatitudes * kLongitudes;

/// A variable at all times and points: waves that move, from `lowest` to `highest`.
std::vector<double> waves(double phase, double lowest, double highest) {
  std::vector<double> values;
  for (int64_t i = 0; i < kTimes * kPoints; ++i) {
    const auto t = static_cast<double>(i / kPoints), p = static_cast<double>(i % kPoints);
    const double wave = std::sin(0.7 * t + 0.13 * p + phase) * std::cos(0.05 * p * phase + 0.3 * t);
    values.push_back(lowest + (highest - lowest) * (wave + 1) / 2);
  }
  return values;
}

/// Temperatures on two levels, precipitation, cloud cover and a land-sea mask that does not change.
class Setups : public testing::Test {
 protected:
  Setups() { write(waves(1, 250, 290), waves(4, 0, 1)); }

  void write(const std::vector<double>& t, const std::vector<double>& lsm,
             const std::string& units = "K") {
    const std::vector<std::vector<double>> values{t, waves(2, 200, 220), waves(3, 0, 0.01),
                                                  waves(5, 0, 1), lsm};
    test::WeatherFile file{.variables = {"t_850", "t_50", "tp", "lcc", "lsm"},
                           .hours = {},
                           .latitudes = {},
                           .longitudes = {},
                           .units = units};
    for (int64_t i = 0; i < kTimes; ++i) file.hours.push_back(6 * static_cast<double>(i));
    for (int64_t i = 0; i < kLatitudes; ++i)
      file.latitudes.push_back(70 - 5 * static_cast<double>(i));
    for (int64_t i = 0; i < kLongitudes; ++i)
      file.longitudes.push_back(west_ + 5 * static_cast<double>(i));
    file.value = [&](int v, double hour, int64_t p) {
      const auto time = v == 4 ? 0 : static_cast<int64_t>(hour / 6);
      return values[v][time * kPoints + p];
    };
    test::write_weather((folder_ / "a.nc").string(), file);
  }

  Experiment experiment(const std::vector<std::string>& overrides = {}) const {
    return read_experiment(Config::parse(R"(
run: {name: test}
data:
  path: )" + (folder_ / "a.nc").string() + R"(
  variables: [t_850, t_50]
  diagnostic: [tp, lcc]
  forcing_variables: [lsm]
  normalization: {tp: std, lcc: none}
  forcings: [insolation, cos_local_time]
  input_forcings: [insolation]
  input_hours: [-6, 0]
  train: {begin: 2019-03-01, end: 2019-03-04}
  validation: {begin: 2019-03-04, end: 2019-03-05}
  test: {begin: 2019-03-05, end: 2019-03-07}
graph: {hidden_level: 4, margin_degrees: 10}
model: {channels: 8, layers: 1, node_table: 2, edge_table: 0, bounding: {tp: relu, lcc: [0, 1]}}
loss: {level_weights: {slope: 0.001, minimum: 0.2}}
optimizer: {learning_rate: 1.0e-2}
train: {steps: 12, batch: 2, log_every: 1, validate_every: 12, rollout: {every: 4, maximum: 2}}
validation: {lead_hours: [6, 12]}
)",
                                         "test.yaml", overrides));
  }

  double west_ = -20;
  test::TemporaryFolder folder_;
  std::unique_ptr<Communicator> comm_ = make_self_communicator();
  ProcessGrid grid_{*comm_, 1};
};

Batch first_batch(const WeatherSetup& setup) { return setup.training_samples()->get({0, 1}); }

TEST_F(Setups, ForecastVariablesAndDiagnosticsFromVariablesAndForcings) {
  const WeatherSetup setup(experiment(), grid_);
  const auto batch = first_batch(setup);
  EXPECT_EQ(batch.state.sizes(), (std::vector<int64_t>{2, 2, kPoints, 4}));
  EXPECT_EQ(batch.forcing.sizes(), (std::vector<int64_t>{2, 4, kPoints, 3})) << "a rollout of two";
  c10::NoGradGuard no_grad;
  EXPECT_EQ(setup.task().forecast(batch).sizes(), (std::vector<int64_t>{2, 2, kPoints, 4}));
  EXPECT_EQ(setup.training_samples()->variables(),
            (std::vector<std::string>{"t_850", "t_50", "tp", "lcc"}));
}

TEST_F(Setups, LetTheNetworkSeeForcingVariables) {
  const WeatherSetup setup(experiment(), grid_);
  c10::NoGradGuard no_grad;
  auto batch = first_batch(setup);
  const auto before = setup.task().forecast(batch);
  batch.forcing.narrow(-1, 2, 1).neg_();
  EXPECT_FALSE(at::equal(setup.task().forecast(batch), before));
}

TEST_F(Setups, LetTheNetworkSeeAForcingAtItsHoursAlone) {
  const WeatherSetup setup(
      experiment({"data.target_forcings=[insolation, cos_local_time]", "data.seen_hours.lsm=[6]"}),
      grid_);
  c10::NoGradGuard no_grad;
  for (const auto& samples : {setup.training_samples(), setup.rollout_samples("validation", 2)}) {
    const auto batch = samples->get({0});
    const auto before = setup.task().forecast(batch);
    for (const int64_t hour : {0, 1, 2, 3}) {  // -6, 0, 6 and 12
      auto other = batch;
      other.forcing = batch.forcing.clone();
      other.forcing.select(1, hour).select(-1, 2).add_(1);
      const auto after = setup.task().forecast(other);
      EXPECT_EQ(at::equal(after.select(1, 0), before.select(1, 0)), hour != 2) << hour;
      EXPECT_EQ(at::equal(after.select(1, 1), before.select(1, 1)), hour < 2) << hour;
    }
  }
}

/// A step's forecast of one variable, in its own units.
at::Tensor forecast_of(const Experiment& experiment, const ProcessGrid& grid, int64_t variable) {
  const WeatherSetup setup(experiment, grid);
  c10::NoGradGuard no_grad;
  const auto forecast = setup.task().forecast(setup.training_samples()->get({0, 1}, 1));
  const auto scale = setup.scales().normalizer().tensors();
  return (forecast.select(-1, variable) - scale.at("add")[variable]) / scale.at("mul")[variable];
}

TEST_F(Setups, KeepForecastsWithinBoundsInTheirOwnUnits) {
  const std::vector<std::string> names{"t_850", "t_50", "tp", "lcc"};
  for (int64_t v = 0; v < 4; ++v) {
    const auto free = forecast_of(experiment({"model.bounding={}"}), grid_, v);
    const double lowest = free.quantile(0.3).item<double>();
    const double highest = free.quantile(0.6).item<double>();
    const auto kept = forecast_of(
        experiment({fmt::format("model.bounding={{{}: [{}, {}]}}", names[v], lowest, highest)}),
        grid_, v);
    const double rounding = 1e-5 * free.abs().max().item<double>();
    EXPECT_TRUE(at::allclose(kept, free.clamp(lowest, highest), 0, rounding)) << names[v];
    EXPECT_FALSE(at::allclose(kept, free, 0, rounding)) << names[v];
  }
}

TEST_F(Setups, TurnBoundsOfANegativeScaleAround) {
  // Degrees Celsius that are all negative: the scale by `max` turns their sign.
  write(waves(1, -50, -10), waves(4, 0, 1));
  auto e = experiment({"data.normalization={t_850: max}", "model.bounding={t_850: [-30, -20]}"});
  const WeatherSetup setup(e, grid_);
  ASSERT_LT(setup.scales().normalizer().tensors().at("mul")[0].item<double>(), 0);
  c10::NoGradGuard no_grad;
  const auto normalized = setup.task().forecast(first_batch(setup));
  const auto t = normalized.select(-1, 0) / setup.scales().normalizer().tensors().at("mul")[0];
  EXPECT_NEAR(t.min().item<double>(), -30, 1e-4);
  EXPECT_NEAR(t.max().item<double>(), -20, 1e-4);
}

std::vector<nlohmann::json> events(const std::filesystem::path& folder) {
  std::vector<nlohmann::json> result;
  std::ifstream file(folder / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) result.push_back(nlohmann::json::parse(line));
  return result;
}

/// Trains an experiment, and gives what it has logged.
std::vector<nlohmann::json> train(const Experiment& experiment, const ProcessGrid& grid,
                                  const test::TemporaryFolder& folder) {
  const WeatherSetup setup(experiment, grid);
  RunFolder run(grid.world(), folder.path(), "run");
  const TrainingData data{setup.training_samples(), setup.scoring_samples("validation"),
                          setup.area()};
  Trainer(setup.task(), data, grid, experiment.trainer, {{&setup.scales()}, {}}).run(run);
  return events(run.path());
}

/// The mean of the losses of steps [begin, end).
double mean_loss(const std::vector<nlohmann::json>& events, int64_t begin, int64_t end) {
  double sum = 0;
  for (const auto& event : events) {
    if (event["event"] != "step" || event["step"] <= begin || event["step"] > end) continue;
    EXPECT_TRUE(std::isfinite(event["loss"].get<double>()));
    sum += event["loss"].get<double>();
  }
  return sum / static_cast<double>(end - begin);
}

TEST_F(Setups, LearnWithGrowingForecasts) {
  const auto all = train(experiment({"train.steps=60", "train.rollout.every=30"}), grid_, folder_);
  EXPECT_LT(mean_loss(all, 20, 30), 0.9 * mean_loss(all, 0, 5));
  EXPECT_GT(mean_loss(all, 30, 60), 0) << "finite with forecasts of two steps";
  int validations = 0;
  for (const auto& event : all) {
    if (event["event"] != "validation") continue;
    ++validations;
    EXPECT_EQ(event["rmse"].size(), 4) << "of what is forecast";
    for (const auto& [name, rmse] : event["rmse"].items()) {
      EXPECT_TRUE(std::isfinite(rmse.get<double>())) << name;
    }
  }
  EXPECT_EQ(validations, 10) << "two lead times, every twelve steps";
}

TEST_F(Setups, TrainOnForecastsThatAreLongerThanTheValidationPeriod) {
  const WeatherSetup setup(experiment({"train.rollout={start: 6}"}), grid_);
  EXPECT_EQ(first_batch(setup).target.size(1), 6);
  EXPECT_EQ(setup.scoring_samples("validation").size(), 2);
}

TEST_F(Setups, LearnAroundMissingValues) {
  auto t = waves(1, 250, 290), lsm = waves(4, 0, 1);
  for (int64_t i = 0; i < kTimes * kPoints; i += 7) t[i] = std::nan("");
  for (int64_t i = 3; i < kPoints; i += 11) lsm[i] = std::nan("");
  write(t, lsm);
  EXPECT_THROW(train(experiment(), grid_, folder_), DataError);
  const auto all = train(experiment({"data.allow_missing=true", "loss.mask_missing=true",
                                     "train.steps=60", "train.rollout.every=0"}),
                         grid_, folder_);
  EXPECT_LT(mean_loss(all, 50, 60), 0.95 * mean_loss(all, 0, 5));
  ASSERT_EQ(all.back()["event"], "validation");
  EXPECT_TRUE(std::isfinite(all.back()["rmse"]["t_850"].get<double>()));
}

/// Data on N16's 1,688 points, as one row of them or as `latitudes` of equal rows.
Experiment on_n16(const test::TemporaryFolder& folder, int64_t latitudes) {
  test::WeatherFile weather{.variables = {"t"}, .latitudes = {}, .longitudes = {}};
  weather.hours = {0, 6, 12, 18, 24, 30, 36, 42};
  const int64_t columns = 1688 / latitudes;
  for (int64_t i = 0; i < latitudes; ++i) weather.latitudes.push_back(-static_cast<double>(i));
  for (int64_t k = 0; k < columns; ++k)
    weather.longitudes.push_back(-180 + 0.125 * static_cast<double>(k));
  const auto file = folder.path() / fmt::format("n16-{}.nc", latitudes);
  test::write_weather(file.string(), weather);
  return read_experiment(Config::parse(R"(
run: {name: test}
data:
  path: )" + file.string() +
                                           R"(
  variables: [t]
  forcings: [sin_latitude, cos_latitude, insolation]
  train: {begin: 2019-03-01, end: 2019-03-02}
  validation: {begin: 2019-03-02, end: 2019-03-02T12}
  test: {begin: 2019-03-02T12, end: 2019-03-03}
graph: {grid: N16, hidden_level: 2}
model: {channels: 4, layers: 1}
loss: {scale_by_tendency: false}
optimizer: {learning_rate: 1.0e-3}
train: {steps: 1}
)",
                                       "test.yaml"));
}

TEST_F(Setups, ComputeForcingsOnTheGridThatIsNamed) {
  Grid grid;
  try {
    grid = make_gaussian_grid("N16");
  } catch (const UsageError&) {
    GTEST_SKIP() << "built without Atlas";
  }
  const auto e = on_n16(folder_, 1);
  const WeatherSetup setup(e, grid_);
  const auto batch = setup.training_samples()->get({0});
  const auto wanted =
      compute_forcings(e.forcings, grid.latitude, grid.longitude, batch.times[0] + 6 * 3600);
  EXPECT_TRUE(at::equal(batch.forcing[0][2], wanted));
  const auto fields = setup.scales().normalizer().denormalize(batch.target[0][0]);
  const auto hour = static_cast<double>((batch.times[0] - parse_time("2019-03-01")) / 3600 + 6);
  for (const int64_t k : {0, 844, 1687}) {
    const double value = test::weather_value(0, hour, 0, -180 + 0.125 * static_cast<double>(k));
    EXPECT_NEAR(fields[k][0].item<double>(), value, 1e-5 * std::abs(value)) << "point " << k;
  }
  const auto message =
      test::message_of<UsageError>([&] { WeatherSetup(on_n16(folder_, 8), grid_); });
  EXPECT_NE(message.find("N16 is one row of points, the data lie on 8 latitudes and 211"),
            std::string::npos)
      << message;
}

TEST_F(Setups, RefuseToScaleByATendencyThatIsNone) {
  const auto message = test::message_of<DataError>([&] {
    WeatherSetup(experiment({"data.variables=[t_850, lsm]", "data.forcing_variables=[]"}), grid_);
  });
  EXPECT_NE(message.find("loss.scale_by_tendency: 'lsm'"), std::string::npos) << message;
  WeatherSetup(experiment({"data.variables=[t_850, lsm]", "data.forcing_variables=[]",
                           "loss.scale_by_tendency=false"}),
               grid_);
}

/// Trains a step, and opens what it leaves on the data as they are then.
class Checkpoints : public Setups {
 protected:
  Checkpoints() {
    train(experiment({"train.steps=1"}), grid_, folder_);
    checkpoint_ = *find_latest(folder_ / "run" / "checkpoints");
  }

  std::vector<std::string> warnings() const {
    return WeatherSetup(experiment(), grid_, checkpoint_.string()).warnings();
  }

  std::filesystem::path checkpoint_;
};

TEST_F(Checkpoints, RefuseDataInOtherUnits) {
  EXPECT_EQ(warnings(), std::vector<std::string>{});
  write(waves(1, 250, 290), waves(4, 0, 1), "kelvin");
  EXPECT_EQ(warnings(), std::vector<std::string>{}) << "the same in another spelling";
  write(waves(1, -23, 17), waves(4, 0, 1), "degC");
  const auto message = test::message_of<DataError>([&] { warnings(); });
  EXPECT_NE(message.find("variable 't_850' is in degC, in the data that the model was trained on "
                         "in K; convert it or"),
            std::string::npos)
      << message;
}

TEST_F(Checkpoints, TellOfAnotherGrid) {
  west_ = -10;
  write(waves(1, 250, 290), waves(4, 0, 1));
  const auto lines = warnings();
  ASSERT_EQ(lines.size(), 1);
  EXPECT_NE(lines[0].find("10 longitudes from -10.000 to 35.000; the model was trained on 8 "
                          "latitudes from 70.000 to 35.000, 10 longitudes from -20.000"),
            std::string::npos)
      << lines[0];
}

/// A state of scales as checkpoints had it before they said where these come from.
StateDict scales_without_origin() {
  StateDict state;
  state.put("normalizer.mul", at::ones({1}));
  state.put("normalizer.add", at::zeros({1}));
  state.put("tendency", at::ones({1}));
  return state;
}

TEST(DataScales, AreSavedAndReadWithoutUnits) {
  DataScales scales({"t"}), again({"t"});
  scales.load(scales_without_origin(), 1);
  StateDict saved;
  scales.save(saved);
  again.load(saved, again.version());
  const test::TemporaryFolder folder;
  test::write_weather((folder / "a.nc").string(), {});
  const Dataset dataset({.paths = {(folder / "a.nc").string()}, .variables = {"t"}});
  EXPECT_EQ(again.compare(dataset, "a.nc"), std::vector<std::string>{});
}

TEST(DataScales, AreReadWithoutUnits) {
  const auto state = scales_without_origin();
  DataScales scales({"t"});
  scales.load(state, 1);
  EXPECT_TRUE(scales.origin().units.empty());
  const test::TemporaryFolder folder;
  test::write_weather((folder / "a.nc").string(), {});
  const Dataset dataset({.paths = {(folder / "a.nc").string()}, .variables = {"t"}});
  EXPECT_EQ(scales.compare(dataset, "a.nc"), std::vector<std::string>{});
  EXPECT_THROW(scales.load(state, 2), DataError);
}

TEST(DataScales, SayWhereUnitsAreMissingOnOneSide) {
  const test::TemporaryFolder folder;
  test::write_weather((folder / "a.nc").string(), {});
  const Dataset dataset({.paths = {(folder / "a.nc").string()}, .variables = {"t"}});
  const DataScales scales({"t"}, {.units = {""}, .grid = origin_of(dataset).grid});
  EXPECT_EQ(scales.compare(dataset, "a.nc"),
            std::vector<std::string>{"a.nc: variable 't' is in K, in the data that the model was "
                                     "trained on it had none; the same are assumed"});
}

TEST_F(Setups, ShareNoRanksThatDoNotDivide) {
  const auto e = experiment({"model.ranks=2"});
  run_ranks(3, [&](Communicator& world) {
    EXPECT_EQ(test::message_of<UsageError>([&] { make_process_grid(world, e); }),
              "model.ranks: 3 ranks do not divide into models of 2; start a multiple of it, or set "
              "model.ranks=1");
  });
  run_ranks(4, [&](Communicator& world) { EXPECT_EQ(make_process_grid(world, e).replicas(), 2); });
}

TEST_F(Setups, TrainAsARunWhoseScoresEveryRankHas) {
  const auto runs = folder_ / "runs";
  const auto text = experiment({"run.folder=" + runs.string(), "train.batch=1"});
  std::mutex mutex;
  std::vector<TrainingResult> results;
  run_ranks(2, [&](Communicator& world) {
    TrainingRun run(world, text, {"a", "program"});
    EXPECT_EQ(run.folder().path(), runs / "test");
    auto result = run.run();
    const std::scoped_lock lock(mutex);
    results.push_back(std::move(result));
  });
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0].summary.steps, 12);
  for (const auto& result : results) {
    ASSERT_EQ(result.scores.size(), 1U);
    EXPECT_EQ(result.scores[0].lead_hours, 6);
    EXPECT_GT(result.scores[0].variables.at(0).rmse, 0);
    EXPECT_EQ(result.scores[0].variables[0].rmse, results[0].scores[0].variables[0].rmse);
  }
  std::ifstream file(runs / "test" / "record.json");
  const auto record = nlohmann::json::parse(file);
  EXPECT_EQ(record["command"], (std::vector<std::string>{"a", "program"}));
  EXPECT_TRUE(std::filesystem::exists(runs / "test" /
                                      record["training"]["best_checkpoint"].get<std::string>()));
}

TEST_F(Setups, AreStartedWithTheErrorOfReadingThem) {
  EXPECT_EQ(test::message_of<UsageError>(
                [&] { start_experiment([&] { return experiment({"train.steps=0"}); }); }),
            test::message_of<UsageError>([&] { experiment({"train.steps=0"}); }));
  const auto [read, world] = start_experiment([&] { return experiment(); });
  EXPECT_EQ(read.run_name, "test");
  EXPECT_EQ(world->size(), 1);
}

}  // namespace
}  // namespace isobar::weather_setup_test
