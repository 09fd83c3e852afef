// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.hpp"

#include <isobar/core/text.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace isobar {
namespace {

/// Text that roff shows as it is: a dash that stays one, no line that is a request.
std::string plain(const std::string& text) {
  std::string result;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) result += "\\&";
    if (c == '\\') {
      result += "\\e";
    } else if (c == '-') {
      result += "\\-";
    } else {
      result += c;
    }
    line_start = c == '\n';
  }
  return result;
}

std::string option_entry(const CLI::Option& option) {
  const bool positional = option.get_positional();
  std::string head = positional ? option.get_name(true, false) : option.get_name(false, true);
  std::string value = option.get_items_expected_min() > 0 ? option.get_type_name() : "";
  if (!option.get_default_str().empty() && option.get_default_str() != "[]") {
    value += "=" + option.get_default_str();
  }
  if (!value.empty() && !positional) head += " " + value;
  return fmt::format(".TP\n.B {}\n{}\n", plain(head), plain(option.get_description()));
}

void add_section(const CLI::App& command, std::string& page) {
  page += fmt::format(".SS {}\n{}.\n", plain(full_name(command)), plain(command.get_description()));
  for (const CLI::Option* option : command.get_options()) page += option_entry(*option);
  if (!command.get_footer().empty()) {
    page += fmt::format(".PP\n.nf\n{}\n.fi\n", plain(command.get_footer()));
  }
  for (const CLI::App* each : command.get_subcommands({})) add_section(*each, page);
}

}  // namespace

std::string man_page(const CLI::App& app, const std::string& version) {
  std::string page =
      fmt::format(".TH {} 1 \"\" \"isobar {}\" \"User Commands\"\n", "ISOBAR", version);
  page += fmt::format(".SH NAME\n{} \\- {}\n", app.get_name(), plain(app.get_description()));
  page += fmt::format(".SH SYNOPSIS\n.B {}\n.I command\n[\\fIargument\\fR ...]\n", app.get_name());
  if (!app.get_footer().empty()) {
    page += fmt::format(".SH DESCRIPTION\n.nf\n{}\n.fi\n", plain(app.get_footer()));
  }
  page += ".SH COMMANDS\n";
  for (const CLI::App* each : app.get_subcommands({})) add_section(*each, page);
  return page +
         ".SH EXIT STATUS\n0 if every check of the command held, 2 for wrong usage, 1 otherwise.\n"
         ".SH FILES\n.TP\n.I runs/NAME/\nwhat a run leaves: metrics.jsonl, record.json, "
         "checkpoints/ "
         "and log/.\n";
}

}  // namespace isobar
