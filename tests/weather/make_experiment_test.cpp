// SPDX-License-Identifier: Apache-2.0
// Experiments that are written for a file, and what is planned before a graph is built.
#include <isobar/weather/make_experiment.hpp>

#include <isobar/weather/file_grid.hpp>

#include <isobar/weather/network_plan.hpp>
#include <isobar/weather/weather_setup.hpp>
#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <isobar/core/error.hpp>
#include <isobar/train/scoring.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace isobar::make_experiment_test {
namespace {

std::vector<double> axis(double first, double step, int64_t n) {
  std::vector<double> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(first + step * static_cast<double>(i));
  return values;
}

/// t changes, lsm does not, one is 1 everywhere, and level is no field.
struct Small {
  double hours = 6;  ///< between times
  int64_t times = 24;
  double missing = 1;  ///< of t at the first point and time
};

std::string write(const test::TemporaryFolder& folder, const Small& small) {
  const auto path = (folder / "small.nc").string();
  const auto lat = axis(80, -20, 9), lon = axis(0, 20, 18);
  test::NcWriter writer(path, {{"time", small.times}, {"latitude", 9}, {"longitude", 18}});
  const auto add_axis = [&](const char* name, const char* units,
                            const std::vector<double>& values) {
    writer.add({.name = name, .dimensions = {name}, .values = values});
    writer.text(name, "units", units);
  };
  add_axis("time", "hours since 2019-03-01", axis(0, small.hours, small.times));
  add_axis("latitude", "degrees_north", lat);
  add_axis("longitude", "degrees_east", lon);
  std::vector<double> t, lsm, one;
  for (int64_t i = 0; i < small.times * 9 * 18; ++i) {
    const auto p = static_cast<double>(i % 162), when = static_cast<double>(i / 162);
    t.push_back(280 + 10 * std::sin(0.3 * p + 0.9 * when));
    lsm.push_back(static_cast<double>(i % 162 % 2));
    one.push_back(1);
  }
  if (small.missing != 1) t[0] = small.missing;
  const auto add = [&](const char* name, const std::vector<double>& values) {
    writer.add({.name = name, .dimensions = {"time", "latitude", "longitude"}, .values = values});
    writer.number(name, "_FillValue", -999, H5T_IEEE_F32LE);
    writer.attach_dimensions(name);
  };
  add("t", t);
  add("lsm", lsm);
  add("one", one);
  return path;
}

/// Reads what init writes and makes a step's loss of it, and a score.
void train(const std::string& path) {
  const auto text = make_experiment(examine_data_file(path), "small");
  SCOPED_TRACE(text);
  const auto experiment = read_experiment(Config::parse(text, "small.yaml"));
  EXPECT_EQ(experiment.validation.begin, experiment.train.end);
  EXPECT_EQ(experiment.test.begin, experiment.validation.end);
  const auto comm = make_self_communicator();
  const ProcessGrid grid(*comm, 1);
  const WeatherSetup setup(experiment, grid);
  const auto loss = setup.task().loss(setup.training_samples()->get({0}, 1));
  EXPECT_TRUE(std::isfinite(loss.item<double>()));
  EXPECT_EQ(setup.graph().uncovered, 0);
  for (const char* split : {"validation", "test"}) {
    const auto scores = score_samples(setup.task(), setup.scoring_samples(split), setup.area(),
                                      grid, 1, c10::Device(c10::kCPU));
    EXPECT_TRUE(std::isfinite(scores.at(0).variables.at(0).rmse)) << split;
  }
}

TEST(Init, WritesExperimentsThatTrainWhateverTheSpacingOfTimes) {
  for (const double hours : {1.0, 3.0, 6.0, 12.0, 24.0, 48.0}) {
    const test::TemporaryFolder folder;
    SCOPED_TRACE(hours);
    train(write(folder, {.hours = hours, .times = hours < 6 ? 60 : 24}));
  }
}

TEST(Init, WritesAnExperimentForValuesThatAreMissing) {
  const test::TemporaryFolder folder;
  const auto path = write(folder, {.missing = -999});
  EXPECT_TRUE(examine_data_file(path).has_missing);
  train(path);
}

TEST(Init, RefusesAFileOfTooFewTimes) {
  const test::TemporaryFolder folder;
  const auto path = write(folder, {.times = 5});
  const auto message =
      test::message_of<DataError>([&] { make_experiment(examine_data_file(path), "small"); });
  EXPECT_NE(message.find("5 times from 2019-03-01T00:00 to 2019-03-02T00:00 are too few"),
            std::string::npos)
      << message;
}

TEST(FileGrid, IsFoundWhateverTheTimes) {
  const test::TemporaryFolder folder;
  const auto grid = find_file_grid(write(folder, {.times = 1}));
  ASSERT_TRUE(grid.has_value());
  EXPECT_EQ(grid->size(), 162);
  const auto levels = (folder / "levels.nc").string();
  test::write_with_levels(levels);
  const auto of_levels = find_file_grid(levels);
  ASSERT_TRUE(of_levels.has_value()) << "none is chosen, and none is wanted";
  EXPECT_EQ(of_levels->size(), 4);
  const auto path = (folder / "row.nc").string();
  test::write_weather(path, {.latitudes = {50}});
  EXPECT_EQ(test::message_of<DataError>([&] { find_file_grid(path); }),
            path +
                ": a grid has two latitudes and two longitudes at least, this one has 1 and 3; "
                "points of a reduced Gaussian grid in one row want its name in graph.grid");
  test::NcWriter((folder / "none.nc").string(), {{"x", 2}})
      .add({.name = "x", .dimensions = {"x"}, .values = {1, 2}});
  EXPECT_FALSE(find_file_grid((folder / "none.nc").string()).has_value());
}

TEST(NetworkPlan, EstimatesAGraphWithoutBuildingIt) {
  const auto globe = make_latlon_grid(axis(87.5, -5, 36), axis(0, 5, 72));
  const auto region = make_latlon_grid(axis(60, -0.25, 41), axis(-10, 0.25, 57));
  for (const auto& [grid, level] :
       {std::pair(&globe, 3), {&globe, 4}, {&region, 5}, {&region, 6}}) {
    SCOPED_TRACE(grid->name + " level " + std::to_string(level));
    const GraphOptions options{.hidden_level = level, .min_level = level - 1};
    const auto about = estimate_sizes(*grid, options);
    const auto exact = sizes_of(build_graph(*grid, options));
    const auto near = [](int64_t a, int64_t b) {
      EXPECT_NEAR(static_cast<double>(a), static_cast<double>(b), 0.5 * static_cast<double>(b));
    };
    near(about.hidden_nodes, exact.hidden_nodes);
    near(about.processor_edges, exact.processor_edges);
    near(about.encoder_edges, exact.encoder_edges);
    EXPECT_EQ(about.decoder_edges, exact.decoder_edges);
  }
}

TEST(NetworkPlan, RefusesAHiddenLevelThatTheMachineCannotHold) {
  const test::TemporaryFolder folder;
  const auto text = make_experiment(examine_data_file(write(folder, {})), "small");
  const auto experiment = [&](const std::vector<std::string>& overrides) {
    return read_experiment(Config::parse(text, "small.yaml", overrides));
  };
  const auto grid = make_latlon_grid(axis(80, -20, 9), axis(0, 20, 18));
  EXPECT_NO_THROW(check_memory(experiment({}), grid));
  const std::vector<std::string> huge{"graph.hidden_level=10", "model.channels=4096"};
  const auto message = test::message_of<UsageError>([&] { check_memory(experiment(huge), grid); });
  for (const char* part : {"graph.hidden_level", "hidden nodes for 162 data points", "GiB",
                           "of this machine, which has", "or a coarser one"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace isobar::make_experiment_test
