// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace isobar {

/// Help of 80 columns, with the value that an option has where it is not given. For `app` and the
/// subcommands and options that are added to it afterwards.
void set_help_style(CLI::App& app);

/// Ends a command's help with a way to call it.
void set_example(CLI::App& command, const std::string& example);

/// What is wrong with a command line that CLI11 refused with `refusal`: one line that names the
/// command, a subcommand or option that does not exist with the nearest that does, and where help
/// is. `words` are the program's arguments, without its name.
std::string explain_refusal(const CLI::App& app, const std::vector<std::string>& words,
                            const std::string& refusal);

/// The command that the words stop at where it wants one of its subcommands and none is named; null
/// elsewhere.
const CLI::App* command_without_subcommand(const CLI::App& app,
                                           const std::vector<std::string>& words);

/// The whole name of a command, such as "isobar bench step".
std::string full_name(const CLI::App& command);

/// The words that an option takes where it takes some words only; empty elsewhere.
std::vector<std::string> words_taken_by(const CLI::Option& option);

/// A script that completes commands, options and their words in bash.
std::string bash_completion(const CLI::App& app);

/// A page for man(1), in roff.
std::string man_page(const CLI::App& app, const std::string& version);

}  // namespace isobar
