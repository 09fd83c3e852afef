// SPDX-License-Identifier: Apache-2.0
// `isobar cluster list`, `detect`, `show` and `env`: what is known of machines, and which this is,
// as tables and rows. On one rank, also where a launcher has started several; nothing is asked of
// Slurm, so all but `detect` says the same on every machine.
#include "cli/command.hpp"

#include <isobar/cluster/describe.hpp>
#include <isobar/cluster/detect.hpp>
#include <isobar/cluster/profile.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace isobar {
namespace {

constexpr const char* kHowToName =
    "name the machine by ISOBAR_CLUSTER or --cluster; isobar cluster list has those that are known";

struct ProfileArguments {
  std::string name;      ///< of a machine; empty: this one
  bool as_yaml = false;  ///< of show
  bool exports = false;  ///< of env
  std::string json;      ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

void add_json_option(CLI::App& app, ProfileArguments& arguments) {
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

std::string number_or_dash(double number) { return number > 0 ? fmt::format("{:g}", number) : "-"; }

std::string gpus_text(const NodeShape& node) {
  return node.gpus > 0 ? fmt::format("{} x {}", node.gpus, node.gpu) : "none";
}

/// Lists machines. A star marks those that the user's file has changed or added.
int run_cluster_list(const ProfileArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto profiles = read_profiles();
  const bool prints = arguments.json != "-";
  auto rows = nlohmann::json::array();
  constexpr const char* kLine = "{:<15} {:<28} {:>5} {:>6}  {}\n";
  if (prints) fmt::print(kLine, "", "", "nodes", "Gbit/s", "GPUs");
  for (const auto& profile : profiles) {
    const bool changed = !profile.overlaid.empty();
    rows.push_back({{"name", profile.name},
                    {"title", profile.title},
                    {"nodes", profile.node.count},
                    {"node_gpus", profile.node.gpus},
                    {"gpu", profile.node.gpu},
                    {"node_gbit_s", profile.network.gbit_s_per_node},
                    {"changed", changed}});
    if (!prints) continue;
    fmt::print(kLine, profile.name + (changed ? "*" : ""), profile.title,
               number_or_dash(profile.node.count), number_or_dash(profile.network.gbit_s_per_node),
               gpus_text(profile.node));
  }
  const bool starred = std::any_of(profiles.begin(), profiles.end(),
                                   [](const auto& profile) { return !profile.overlaid.empty(); });
  if (prints) fmt::print("Gbit/s and GPUs are those of a node\n");
  if (prints && starred) fmt::print("* with what ISOBAR_CLUSTER_CONFIG says\n");
  write_report(arguments.json, "isobar.cluster.list.1", arguments.command, rows);
  return 0;
}

/// Says which machine this is. Returns 1 where that is not known.
int run_cluster_detect(const ProfileArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto found = detect_cluster(read_profiles(), read_machine_facts());
  auto rows = nlohmann::json::array();
  for (const auto& name : found.clusters) rows.push_back({{"name", name}});
  write_report(arguments.json, "isobar.cluster.detect.1", arguments.command, rows,
               {{"reason", found.reason}});
  const bool known = found.clusters.size() == 1;
  if (known && arguments.json != "-") fmt::print("{} ({})\n", found.clusters[0], found.reason);
  if (known) return 0;
  const auto what = found.clusters.empty() ? "this machine is not known"
                                           : "this may be " + join_words(found.clusters, " or ");
  fmt::print(stderr, "isobar: {} ({}); {}\n", what, found.reason, kHowToName);
  return 1;
}

/// Shows all that is known of a machine, with marks.
int run_cluster_show(const ProfileArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto profiles = read_profiles();
  const auto& profile = profile_here(profiles, arguments.name);
  if (arguments.as_yaml) {
    std::fputs(profile_text(profile.name).c_str(), stdout);
    return 0;
  }
  auto rows = nlohmann::json::array();
  std::string text = profile.name + "\n";
  for (const auto& line : describe_profile(profile)) {
    rows.push_back({{"key", line.key},
                    {"value", line.value},
                    {"unverified", line.unverified},
                    {"overlaid", line.overlaid}});
    text += fmt::format("  {:<29} {}{}\n", line.key, line.value, line.overlaid ? "  (yours)" : "");
    if (!line.unverified.empty()) {
      text += fmt::format("  {:<29} not certain: {}\n", "", line.unverified);
    }
  }
  if (arguments.json != "-") std::fputs(text.c_str(), stdout);
  write_report(arguments.json, "isobar.cluster.show.1", arguments.command, rows,
               {{"name", profile.name}});
  return 0;
}

/// Prints what ranks have in their environment on a machine.
int run_cluster_env(const ProfileArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto profiles = read_profiles();
  const auto& profile = profile_here(profiles, arguments.name);
  const auto text = arguments.exports ? export_lines(profile) : environment_lines(profile);
  std::fputs(text.c_str(), stdout);
  return 0;
}

void add_show_options(CLI::App& app, ProfileArguments& arguments) {
  app.add_option("name", arguments.name, "the machine; this one where none is named");
  app.add_flag("--yaml", arguments.as_yaml,
               "its file as it is part of the program, or its section of your own");
  add_json_option(app, arguments);
}

void add_env_options(CLI::App& app, ProfileArguments& arguments) {
  app.add_option("name", arguments.name, "the machine; this one where none is named");
  app.add_flag("--shell", arguments.exports, "lines of export, for a shell's eval");
}

const RegisteredCommand kList{{.place = 80,
                               .group = "cluster",
                               .name = "list",
                               .description = "List the machines that are known",
                               .example = "isobar cluster list",
                               .add = with_arguments(add_json_option, run_cluster_list)}};

const RegisteredCommand kDetect{{.place = 81,
                                 .group = "cluster",
                                 .name = "detect",
                                 .description = "Say which machine this is, and what gave it away",
                                 .example = "isobar cluster detect",
                                 .add = with_arguments(add_json_option, run_cluster_detect)}};

const RegisteredCommand kShow{{.place = 82,
                               .group = "cluster",
                               .name = "show",
                               .description = "Show what is known of a machine",
                               .example = "isobar cluster show leonardo",
                               .add = with_arguments(add_show_options, run_cluster_show)}};

const RegisteredCommand kEnv{{.place = 83,
                              .group = "cluster",
                              .name = "env",
                              .description = "Print the environment that ranks have on a machine",
                              .example = "eval \"$(isobar cluster env leonardo --shell)\"",
                              .add = with_arguments(add_env_options, run_cluster_env)}};

}  // namespace
}  // namespace isobar
