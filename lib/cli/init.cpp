// SPDX-License-Identifier: Apache-2.0
// `isobar init`, on one rank: what make_experiment() writes is read back as `isobar train` will.
#include "cli/command.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/weather/experiment.hpp>
#include <isobar/weather/make_experiment.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct InitArguments {
  std::string file;    ///< netCDF
  std::string output;  ///< the experiment to write; empty: after the file
  std::string name;    ///< of the run; empty: after the file
  std::vector<std::string> command;
};

namespace fs = std::filesystem;

void add_init_options(CLI::App& app, InitArguments& arguments) {
  app.add_option("file", arguments.file,
                 "netCDF-4, with variables on times, latitudes and longitudes")
      ->required();
  app.add_option("--output", arguments.output,
                 "the experiment to write; by default the file's name with .yaml");
  app.add_option("--name", arguments.name, "name of its runs; by default the file's");
}

/// Writes an experiment, which must not be there yet. Returns the exit code.
int run_init(const InitArguments& arguments) {
  if (read_launch_environment().rank != 0) return 0;  // one rank speaks and works for all
  const fs::path data(arguments.file);
  const auto name = arguments.name.empty() ? data.stem().string() : arguments.name;
  const auto output = arguments.output.empty() ? data.stem().string() + ".yaml" : arguments.output;
  ISOBAR_CHECK(!fs::exists(output), "init: '", output,
               "' is there already; remove it, or name another by --output");
  const auto file = examine_data_file(arguments.file);
  const auto text = make_experiment(file, name);
  const auto experiment = read_experiment(Config::parse(text, output));  // as train will
  write_file_atomically(output, text);
  fmt::print("{}: {} variable{} on {} points, {} times; hidden level {}\n", output,
             file.changing.size() + file.constant.size(),
             file.changing.size() + file.constant.size() == 1 ? "" : "s",
             file.latitudes.size() * file.longitudes.size(), file.times.size(),
             experiment.graph.hidden_level);
  for (const auto& [variable, why] : file.left_out) fmt::print("left out: {}: {}\n", variable, why);
  fmt::print("train it:  isobar train {}\n", output);
  return 0;
}

const RegisteredCommand kInit{{.place = 10,
                               .group = "",
                               .name = "init",
                               .description = "Write an experiment for a file of your own",
                               .example = "isobar init era5.nc && isobar train era5.yaml",
                               .add = with_arguments(add_init_options, run_init)}};

}  // namespace
}  // namespace isobar
