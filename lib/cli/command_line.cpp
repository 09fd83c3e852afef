// SPDX-License-Identifier: Apache-2.0
// What a user sees of the tree of commands before one runs: help, and what is wrong with a command
// line. CLI11 says that something is missing or left over; here the words are walked once more to
// say which one, and what it was probably meant to be.
#include "cli/command_line.hpp"

#include <isobar/core/text.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace isobar {
namespace {

constexpr std::size_t kColumns = 80;
constexpr std::size_t kNameColumns = 30;

std::string wrapped(const std::string& text, std::size_t columns) {
  std::string result;
  std::size_t used = 0;
  for (const auto& word : CLI::detail::split(text, ' ')) {
    if (used > 0) {
      const bool fits = used + 1 + word.size() <= columns;
      result += fits ? ' ' : '\n';
      used = fits ? used + 1 : 0;
    }
    result += word;
    used += word.size();
  }
  return result;
}

class NarrowFormatter final : public CLI::Formatter {
 public:
  std::string make_option_desc(const CLI::Option* option) const override {
    return wrapped(option->get_description(), kColumns - kNameColumns);
  }
  std::string make_description(const CLI::App* app) const override {
    return wrapped(CLI::Formatter::make_description(app), kColumns);
  }
  /// An empty list is no default worth a word.
  std::string make_option_opts(const CLI::Option* option) const override {
    const auto text = CLI::Formatter::make_option_opts(option);
    const auto empty = text.find("=[]");
    return empty == std::string::npos ? text : text.substr(0, empty) + text.substr(empty + 3);
  }
};

/// Where the words lead in the tree of commands, up to the first that leads nowhere.
struct Walk {
  const CLI::App* command = nullptr;
  std::string stray;       ///< a word that is no subcommand, or no option
  bool is_option = false;  ///< the stray word
};

const CLI::App* subcommand(const CLI::App& command, const std::string& name) {
  for (const CLI::App* each : command.get_subcommands({})) {
    if (each->get_name() == name) return each;
  }
  return nullptr;
}

/// Of "--json=file" and "-n4" the name.
std::string option_name(const std::string& word) {
  if (word.size() > 1 && word[1] != '-') return word.substr(0, 2);
  return word.substr(0, word.find('='));
}

bool is_negative_number(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && (std::isdigit(word[1]) != 0 || word[1] == '.');
}

Walk walk(const CLI::App& app, const std::vector<std::string>& words) {
  Walk at{&app, {}, false};
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto& word = words[i];
    if (word == "--") break;
    if (word.size() > 1 && word[0] == '-' && !is_negative_number(word)) {
      const auto* option = at.command->get_option_no_throw(option_name(word));
      if (option == nullptr) return {at.command, word, true};
      const bool takes_next = option->get_items_expected_min() > 0 && option_name(word) == word;
      if (takes_next) ++i;
      continue;
    }
    if (at.command->get_subcommands({}).empty()) continue;  // an argument
    const auto* next = subcommand(*at.command, word);
    if (next == nullptr) return {at.command, word, false};
    at.command = next;
  }
  return at;
}

std::vector<std::string> subcommand_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* each : command.get_subcommands({})) names.push_back(each->get_name());
  return names;
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

}  // namespace

void set_help_style(CLI::App& app) {
  auto formatter = std::make_shared<NarrowFormatter>();
  formatter->column_width(kNameColumns);
  app.formatter(formatter);
  app.option_defaults()->always_capture_default();
}

void set_example(CLI::App& command, const std::string& example) {
  command.footer("Example:\n  " + example);
}

std::string full_name(const CLI::App& command) {
  const auto* parent = command.get_parent();
  return parent == nullptr ? command.get_name() : full_name(*parent) + " " + command.get_name();
}

const CLI::App* command_without_subcommand(const CLI::App& app,
                                           const std::vector<std::string>& words) {
  const auto at = walk(app, words);
  const bool wants = at.stray.empty() && at.command->get_require_subcommand_min() > 0;
  return wants ? at.command : nullptr;
}

std::string explain_refusal(const CLI::App& app, const std::vector<std::string>& words,
                            const std::string& refusal) {
  const auto at = walk(app, words);
  const auto name = full_name(*at.command);
  std::string what = refusal;
  if (!at.stray.empty() && at.is_option) {
    const auto given = option_name(at.stray);
    what = fmt::format("no option '{}'", given);
    // A list of all of them would be no line.
    if (const auto near = nearest(given, option_names(*at.command))) {
      what += fmt::format("; did you mean '{}'?", *near);
    }
  } else if (!at.stray.empty()) {
    what = fmt::format("no command '{}'; {}", at.stray,
                       did_you_mean(at.stray, subcommand_names(*at.command)));
  }
  std::replace(what.begin(), what.end(), '\n', ' ');
  return fmt::format("{}: {} ({} --help says more)", name, what, name);
}

std::vector<std::string> words_taken_by(const CLI::Option& option) {
  const auto type = option.get_type_name();  // such as TEXT:{none,ddp}
  const auto open = type.find('{'), close = type.find('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

}  // namespace isobar
