// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/collective_arguments.hpp>
#include <isobar/bench/subject.hpp>

#include <functional>
#include <memory>
#include <string>

namespace CLI {
class App;
}

namespace isobar::bench {

/// This process's place, from RANK and WORLD_SIZE or the variables of the MPI
/// launcher or srun; 0 of 1 where there are none.
struct LaunchPlace {
  int rank = 0;
  int size = 1;
};

LaunchPlace read_launch_place();

/// What `main` of a program does: reads the options that `add_options` adds, runs
/// `body` with one thread in LibTorch's pool, and says errors in one line. Returns the
/// exit code: that of `body`, 2 for wrong usage, 1 for an error.
int run_program(int argc, char** argv, const std::string& description,
                const std::function<void(CLI::App&)>& add_options,
                const std::function<int()>& body);

/// What `main` of a peer of the collectives does: reads the common options and those that
/// `add_own_options` adds, makes the peer, measures, and says errors in one line.
/// Returns the exit code: 0 for right results, 2 for wrong usage, 1 otherwise.
int run_peer(int argc, char** argv, const std::string& description,
             const std::function<void(CLI::App&)>& add_own_options,
             const std::function<std::unique_ptr<Subject>(const CollectiveArguments&)>& make);

}  // namespace isobar::bench
