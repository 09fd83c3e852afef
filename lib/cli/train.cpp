// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"
#include "cli/experiment_file.hpp"
#include "cli/scores_table.hpp"

#include <isobar/core/error.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/weather/training_run.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace isobar {
namespace {

struct TrainArguments {
  std::string experiment;              ///< a YAML file
  std::vector<std::string> overrides;  ///< key=value
  std::vector<std::string> command;    ///< program and arguments, for the record
};

void add_train_options(CLI::App& app, TrainArguments& arguments) {
  app.add_option("experiment", arguments.experiment, "the experiment, a YAML file")->required();
  app.add_option("overrides", arguments.overrides, "keys to change, such as train.steps=100");
}

/// The machine that the job's script names, and the keys that the user's file has set of it; that
/// the file has gone since is no reason to end a run.
nlohmann::json machine_of_job(const std::string& name) {
  nlohmann::json machine{{"name", name}};
  try {
    const auto profiles = read_profiles();
    machine["overlaid"] = profile_named(profiles, name).overlaid;
  } catch (const Error&) {
    machine["overlaid"] = nullptr;
  }
  return machine;
}

/// Trains an experiment, scores its best checkpoint on the test period once, and prints a table.
int run_train(const TrainArguments& arguments) {
  const auto [experiment, world] = start_experiment(
      [&] { return read_experiment_file(arguments.experiment, arguments.overrides); });
  TrainingRun run(*world, experiment, arguments.command);
  const auto machine = environment_variable("ISOBAR_CLUSTER");
  if (world->rank() == 0 && !machine.empty()) run.record("cluster", machine_of_job(machine));
  const auto result = run.run();
  if (world->rank() == 0) {
    fmt::print("test period {} to {}, checkpoint of step {}\n{}", experiment.test.begin,
               experiment.test.end, result.summary.best_step, scores_table(result.scores));
    fmt::print("{}", profile_table(result.summary.profile));
    if (experiment.profile_detail) {
      fmt::print("{}", collectives_table(result.summary.profile));
    }
    std::fflush(stdout);
  }
  return 0;
}

const RegisteredCommand kTrain{
    {.place = 20,
     .group = "",
     .name = "train",
     .description = "Train the model that an experiment describes",
     .example = "mpirun -n 2 isobar train experiment.yaml train.steps=100 run.name=short",
     .add = with_arguments(add_train_options, run_train)}};

}  // namespace
}  // namespace isobar
