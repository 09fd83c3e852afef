// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

/// Program and arguments, as they were given.
using Words = std::vector<std::string>;

/// A subcommand of `isobar`.
struct Command {
  int place;          ///< in the help, where commands stand in this order
  std::string group;  ///< the command that has it, such as "bench"; empty for none
  std::string name;
  std::string description;
  std::string example;  ///< a way to call it
  /// Adds its options to `app`, and returns what runs it with their values, and gives the exit
  /// code.
  std::function<std::function<int()>(CLI::App& app, const Words& words)> add;
};

/// Makes a command known to the program before main(), in the file that runs it:
///
///     const RegisteredCommand kRegistered{{.place = 20, .group = "", .name = "train", ...}};
class RegisteredCommand {
 public:
  explicit RegisteredCommand(Command command);
};

/// All of them, by place.
std::vector<Command> registered_commands();

/// The words that go into records and reports, wherever a command's arguments keep them.
template <typename Arguments>
Words& words_of(Arguments& arguments) {
  if constexpr (requires { arguments.command; }) {
    return arguments.command;
  } else if constexpr (requires { arguments.common; }) {
    return words_of(arguments.common);
  } else {
    return words_of(arguments.step);
  }
}

/// Command::add of a command whose options write into a struct: `add_options` has them write there,
/// `run` takes it.
template <typename Arguments>
auto with_arguments(void (*add_options)(CLI::App&, Arguments&), int (*run)(const Arguments&)) {
  return [add_options, run](CLI::App& app, const Words& words) -> std::function<int()> {
    const auto arguments = std::make_shared<Arguments>();
    words_of(*arguments) = words;
    add_options(app, *arguments);
    return [arguments, run] { return run(*arguments); };
  };
}

}  // namespace isobar
