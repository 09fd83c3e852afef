// SPDX-License-Identifier: Apache-2.0
// The tree of commands, and how the program ends: 0 if every check of a command held, 2 for wrong
// usage, 1 otherwise. Commands register themselves, each in the file that runs it. An error that
// every rank has is said by rank 0; one that a rank has alone is said there, and the rank leaves at
// once without MPI_Finalize, which would wait for ranks that wait for it: the launcher ends those.
#include "cli/command.hpp"
#include "cli/command_line.hpp"
#include "cli/doctor.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/version.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/launch/memory.hpp>
#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace isobar {
namespace {

void print_error(const std::string& text) {
  std::fflush(stdout);
  std::fprintf(stderr, "isobar: error: %s\n", text.substr(0, text.find('\n')).c_str());
  std::fflush(stderr);
}

[[noreturn]] void leave(int code) {
  std::fflush(nullptr);
  std::_Exit(code);
}

/// 2 for wrong usage: a command line, an experiment that is not there or a key of it. What is wrong
/// with the data, a file of them that is not there included, is 1.
int code_of(const Error& error) {
  return dynamic_cast<const UsageError*>(&error) != nullptr ? 2 : 1;
}

/// The code of a command whose output has arrived: what a full disk took is an error.
int once_written(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  print_error(std::string("standard output: ") + std::strerror(errno));
  return code == 0 ? 1 : code;
}

int run_guarded(const std::function<int()>& command) {
  try {
    return once_written(command());
  } catch (const Error& error) {
    // What every rank throws, rank 0 says for all.
    if (!error.known_to_all() || launch_rank_or_zero() == 0) print_error(error_line(error));
    if (!error.known_to_all()) leave(code_of(error));
    return code_of(error);
  } catch (const std::exception& error) {
    print_error(error_line(error));
    leave(1);
  }
}

constexpr const char* kFooter =
    R"(Several ranks: mpirun -n 4 isobar COMMAND ..., or srun. As root, with more ranks
than cores, on threads and binding: docs/communication.md, "Start the ranks".
All commands: isobar man | man -l -
Completion in bash: source <(isobar completion)

Example:
  isobar train examples/experiments/quickstart.yaml run.name=first)";

/// The commands that have commands, and what each is about.
const std::map<std::string, std::string> kGroups{
    {"bench", "Measure communication and training steps"},
    {"campaign", "Measure a program over the values of its settings"},
    {"cluster", "Look at supercomputers, and submit jobs to them"},
    {"data", "Look at files to train on"},
    {"graph", "Build and look at the mesh of a model"}};

/// A command of text that is made of the program itself.
auto printing(std::string (*make)(const CLI::App& program)) {
  return [make](CLI::App& app, const Words&) -> std::function<int()> {
    return [make, &program = *app.get_parent()] {
      if (launch_rank_or_zero() == 0) std::fputs(make(program).c_str(), stdout);
      return 0;
    };
  };
}

const RegisteredCommand kCompletion{
    {.place = 91,
     .group = "",
     .name = "completion",
     .description = "Print the completion of commands for bash",
     .example = "source <(isobar completion)",
     .add = printing([](const CLI::App& program) { return bash_completion(program); })}};

const RegisteredCommand kMan{
    {.place = 92,
     .group = "",
     .name = "man",
     .description = "Print the manual page",
     .example = "isobar man | man -l -",
     .add = printing([](const CLI::App& program) { return man_page(program, version()); })}};

/// The program's commands. They keep their options; the app is named by them, so it stays.
class Program {
 public:
  Program(int argc, char** argv) : words_(argv, argv + argc) {
    keep_freed_memory();
    app_.require_subcommand(1);
    app_.set_version_flag("--version", [] { return version_text(); });
    app_.footer(kFooter);
    set_help_style(app_);
    for (const auto& command : registered_commands()) add(command);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  int run() {
    const std::vector<std::string> rest(words_.begin() + 1, words_.end());
    try {
      app_.parse(std::vector<std::string>(rest.rbegin(), rest.rend()));
    } catch (const CLI::Success& wanted) {  // help or version
      return launch_rank_or_zero() == 0 ? app_.exit(wanted) : 0;
    } catch (const CLI::ParseError& refusal) {
      if (launch_rank_or_zero() == 0) refuse(rest, refusal.what());
      return 2;
    }
    for (const auto& [command, run] : commands_) {
      if (*command) return run_guarded(run);
    }
    return 2;
  }

 private:
  void refuse(const std::vector<std::string>& rest, const std::string& refusal) const {
    if (const auto* command = command_without_subcommand(app_, rest)) {
      std::fputs(command->help().c_str(), stdout);
    } else {
      print_error(explain_refusal(app_, rest, refusal));
    }
  }

  void add(const Command& command) {
    auto& app = *parent(command.group).add_subcommand(command.name, command.description);
    set_example(app, command.example);
    commands_.emplace_back(&app, command.add(app, words_));
  }

  /// A command that has commands is made with the first of them.
  CLI::App& parent(const std::string& group) {
    if (group.empty()) return app_;
    auto& found = groups_[group];
    if (found == nullptr) {
      found = app_.add_subcommand(group, kGroups.at(group));
      found->require_subcommand(1);
    }
    return *found;
  }

  std::vector<std::string> words_;
  CLI::App app_{"Data-parallel training of weather models on LibTorch", "isobar"};
  std::map<std::string, CLI::App*> groups_;
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands_;
};

}  // namespace
}  // namespace isobar

int main(int argc, char** argv) { return isobar::Program(argc, argv).run(); }
