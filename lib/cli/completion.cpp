// SPDX-License-Identifier: Apache-2.0
// The script is made of the tree of commands and stands alone: it never starts the program, which
// takes longer to load than a key may take.
#include "cli/command_line.hpp"

#include <isobar/core/text.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace isobar {
namespace {

constexpr const char* kHead = R"(# Completes `isobar` in bash; made by `isobar completion`.
_isobar() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=isobar words='' i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case "$command ${COMP_WORDS[i]}" in
)";

constexpr const char* kTail = R"(  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _isobar isobar
)";

struct Tables {
  std::vector<std::string> commands;  ///< whole names of all but the program
  std::string values;                 ///< cases of an option's words
  std::string words;                  ///< cases of a command's subcommands and options
};

void add_options(const CLI::App& command, const std::string& name, Tables& tables,
                 std::vector<std::string>& words) {
  for (const CLI::Option* option : command.get_options()) {
    if (!option->nonpositional()) continue;
    std::vector<std::string> names;
    for (const auto& each : option->get_lnames()) names.push_back("--" + each);
    for (const auto& each : option->get_snames()) names.push_back("-" + each);
    words.insert(words.end(), names.begin(), names.end());
    if (option->get_items_expected_min() == 0) continue;
    // Where any word will do, files are offered.
    for (const auto& each : names) {
      tables.values += fmt::format("    '{} {}') words='{}' ;;\n", name, each,
                                   join_words(words_taken_by(*option), " "));
    }
  }
}

void add_command(const CLI::App& command, Tables& tables) {
  const auto name = full_name(command);
  if (command.get_parent() != nullptr) tables.commands.push_back(name);
  std::vector<std::string> words;
  for (const CLI::App* each : command.get_subcommands({})) words.push_back(each->get_name());
  const bool has_arguments = words.empty();
  std::vector<std::string> options;
  add_options(command, name, tables, options);
  // Options are offered where a dash asks for them, so that elsewhere files are.
  tables.words +=
      fmt::format("    '{}') if [[ $word == -* ]]; then words='{}'; else words='{}'; fi ;;\n", name,
                  join_words(options, " "), has_arguments ? "" : join_words(words, " "));
  for (const CLI::App* each : command.get_subcommands({})) add_command(*each, tables);
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
  Tables tables;
  add_command(app, tables);
  std::string script = kHead;
  for (const auto& name : tables.commands) {
    script += fmt::format("      '{}') command='{}' ;;\n", name, name);
  }
  script += "    esac\n  done\n  case \"$command $before\" in\n" + tables.values;
  script += "    *) case \"$command\" in\n" + tables.words + "    esac ;;\n";
  return script + kTail;
}

}  // namespace isobar
