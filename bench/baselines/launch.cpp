// SPDX-License-Identifier: Apache-2.0
#include "bench/baselines/launch.hpp"

#include <isobar/launch/memory.hpp>
#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#include "bench/programs/collective_program.hpp"

namespace isobar::bench {
namespace {

int first_number(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names) {
    const char* text = std::getenv(name);
    if (text && *text) return std::atoi(text);
  }
  return otherwise;
}

}  // namespace

LaunchPlace read_launch_place() {
  return {
      first_number({"RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"}, 0),
      first_number({"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS",
                    "SLURM_NTASKS"},
                   1)};
}

int run_program(int argc, char** argv, const std::string& description,
                const std::function<void(CLI::App&)>& add_options,
                const std::function<int()>& body) {
  CLI::App app{description};
  add_options(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    keep_freed_memory();  // as isobar does, so that both have the same malloc
    at::set_num_threads(1);
    return body();
  } catch (const std::exception& error) {
    const std::string text = error.what();
    std::fprintf(stderr, "%s: error: %s\n", argv[0], text.substr(0, text.find('\n')).c_str());
    // At once: a peer's destructors and exit handlers would wait for the other ranks.
    std::fflush(nullptr);
    std::_Exit(1);
  }
}

int run_peer(int argc, char** argv, const std::string& description,
             const std::function<void(CLI::App&)>& add_own_options,
             const std::function<std::unique_ptr<Subject>(const CollectiveArguments&)>& make) {
  CollectiveArguments arguments;
  arguments.command.assign(argv, argv + argc);
  return run_program(
      argc, argv, description,
      [&](CLI::App& app) {
        add_collective_options(app, arguments);
        add_own_options(app);
      },
      [&] {
        const auto subject = make(arguments);
        return run_collective(*subject, arguments);
      });
}

}  // namespace isobar::bench
