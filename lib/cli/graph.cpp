// SPDX-License-Identifier: Apache-2.0
// `isobar graph build` and `graph info`: options into a grid and a mesh, on one rank. The graph
// itself is made by the graph layer, its table by graph_report.cpp. A mesh that is far too fine for
// its grid is refused before it is built, which would take minutes and the machine's memory.
#include "cli/command.hpp"
#include "cli/graph_report.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/progress.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/core/text.hpp>
#include <isobar/graph/graph_file.hpp>
#include <isobar/graph/voronoi.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/weather/file_grid.hpp>
#include <isobar/weather/network_plan.hpp>
#include <ATen/core/Tensor.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct GraphArguments {
  std::string file;    ///< a graph or data file to look at, in place of a grid
  std::string grid;    ///< by name
  std::string hidden;  ///< an icosphere's level, or a grid by name
  bool is_hidden_given = false;
  GraphOptions options;   ///< but for what `hidden` says
  std::string area;       ///< weights, or voronoi
  std::string output;     ///< of build; empty for a name after grid and hidden mesh
  int ranks = 1;          ///< of info
  std::string partition;  ///< of info: whose ranks are shown
  std::string json;       ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

std::optional<int64_t> whole_number(const std::string& text) {
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

/// What CLI11 wants of a validator: what is wrong, or nothing.
std::string check_grid(const std::string& name) {
  try {
    make_gaussian_grid(name);
    return {};
  } catch (const UsageError& error) {
    return error.what();
  }
}

std::string check_hidden(const std::string& hidden) {
  const auto level = whole_number(hidden);
  if (!level) return check_grid(hidden);
  return *level >= 0 && *level <= 10 ? "" : "wanted a level of 0 to 10, got " + hidden;
}

/// The options of both commands; returns the one that names the grid.
CLI::Option* add_graph_options(CLI::App& app, GraphArguments& arguments) {
  auto* grid = app.add_option("--grid", arguments.grid,
                              "the data's grid, a reduced Gaussian one such as N320")
                   ->check(check_grid);
  app.add_option("--hidden", arguments.hidden,
                 "the hidden mesh: an icosphere's level, or a grid such as O96")
      ->check(check_hidden)
      ->default_val("5");
  auto& options = arguments.options;
  app.add_option("--min-level", options.min_level, "coarsest icosphere level whose edges are used");
  app.add_option("--processor-neighbours", options.processor_neighbours,
                 "where --hidden is a grid: nearest nodes that each one reads");
  app.add_option("--cutoff-factor", options.cutoff_factor,
                 "how far a hidden node reaches for data nodes, see docs/graph.md");
  app.add_option("--max-neighbours", options.max_neighbours,
                 "data nodes that a hidden node reads, at most");
  app.add_option("--decoder-neighbours", options.decoder_neighbours,
                 "hidden nodes that each data node reads");
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
  return grid;
}

GraphOptions options_of(const GraphArguments& arguments) {
  GraphOptions options = arguments.options;
  if (const auto level = whole_number(arguments.hidden)) {
    options.hidden_level = *level;
  } else {
    options.hidden_grid = arguments.hidden;
  }
  return options;
}

void warn_of_mesh(const Grid& grid, const GraphOptions& options) {
  const auto warning = check_mesh(grid, options);
  if (!warning.empty()) fmt::print(stderr, "isobar: warning: {}\n", warning);
}

/// Of points that have no name: a file's, whose hidden level is theirs unless one is given.
StoredGraph build_on(const Grid& grid, const GraphArguments& arguments) {
  GraphOptions options = options_of(arguments);
  if (!arguments.is_hidden_given) {
    options.hidden_level = suggested_level(grid);
    options.min_level = std::min(options.min_level, options.hidden_level);
    options.margin_degrees = icosphere_spacing_degrees(options.hidden_level);
  }
  warn_of_mesh(grid, options);
  return {build_graph(grid, options), options, {}};
}

/// A file's graph, which is no grid of data: that was tried before.
StoredGraph load(const std::string& path) {
  try {
    return load_graph(path);
  } catch (const Error& error) {
    throw DataError(
        fmt::format("{}: no variable lies on a latitude-longitude grid, so it was taken for what "
                    "isobar graph build wrote: {}",
                    path, error.what()));
  }
}

/// Icosphere levels around what the points ask for.
std::string levels_table(const Grid& grid) {
  const int64_t suggested = suggested_level(grid);
  std::string text = fmt::format("\n{:<6} {:>12} {:>13} {:>21}\n", "level", "hidden nodes",
                                 "degrees apart", "data points to a node");
  for (int64_t level = std::max<int64_t>(0, suggested - 2);
       level <= std::min<int64_t>(10, suggested + 2); ++level) {
    const auto sizes = estimate_sizes(grid, {.hidden_level = level, .min_level = level});
    text +=
        fmt::format("{:<6} {:>12} {:>13.3g} {:>21.3g}{}\n", level, sizes.hidden_nodes,
                    icosphere_spacing_degrees(level),
                    static_cast<double>(sizes.data_nodes) / static_cast<double>(sizes.hidden_nodes),
                    level == suggested ? "  suggested" : "");
  }
  return text + "hidden nodes: about, with those around a region; set by graph.hidden_level\n";
}

StoredGraph build(const GraphArguments& arguments) {
  Grid grid = make_gaussian_grid(arguments.grid);
  if (arguments.area == "voronoi") grid.area = voronoi_area({grid.latitude, grid.longitude});
  const GraphOptions options = options_of(arguments);
  warn_of_mesh(grid, options);
  return {build_graph(grid, options), options, {}};
}

/// Under a launcher one rank speaks and works for all.
bool other_rank() { return read_launch_environment().rank != 0; }

void add_graph_build_options(CLI::App& app, GraphArguments& arguments) {
  add_graph_options(app, arguments)->required();
  app.add_option("--area", arguments.area,
                 "what weighs a data node: its Gaussian weight, or its share of the sphere")
      ->check(CLI::IsMember({"weights", "voronoi"}))
      ->default_val("weights");
  app.add_option("--output", arguments.output,
                 "the file to write; by default N320-ico6.h5 and the like");
}

void add_graph_info_options(CLI::App& app, GraphArguments& arguments) {
  auto* grid = add_graph_options(app, arguments);
  auto* file = app.add_option("file", arguments.file,
                              "a netCDF-4 file of data, or what isobar graph build wrote");
  file->excludes(grid);
  const auto* hidden = app.get_option("--hidden");
  app.add_option("--ranks", arguments.ranks, "ranks that share a model: show what each would hold")
      ->check(check_positive);
  app.add_option("--partition", arguments.partition, "how the ranks share it")
      ->check(CLI::IsMember({"bands", "bisection"}))
      ->default_val("bands");
  app.callback([file, grid, hidden, &arguments] {
    arguments.is_hidden_given = hidden->count() > 0;
    if (file->empty() && grid->empty()) {
      throw CLI::RequiredError("a file, or --grid");
    }
  });
}

/// Builds a graph and writes its file. Returns the exit code.
int run_graph_build(const GraphArguments& arguments) {
  if (other_rank()) return 0;
  const Stopwatch watch;
  Progress progress({.label = "graph", .total = 2, .unit = "stage"});
  const StoredGraph built = build(arguments);
  const double build_s = watch.elapsed_s();
  progress.update(1);
  const std::string file = arguments.output.empty()
                               ? built.graph.data.name + "-" + hidden_name(built.options) + ".h5"
                               : arguments.output;
  save_graph(built.graph, built.options, file);
  progress.update(2);
  progress.finish();

  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(file));
  auto row = graph_row(built);
  row.update({{"build_s", build_s}, {"file", file}, {"bytes", bytes}});
  std::string text = graph_line(built) + fmt::format("built in {:.1f} s, wrote {} ({})\n", build_s,
                                                     file, format_bytes(bytes));
  if (built.graph.uncovered > 0) {
    text +=
        fmt::format("warning: {} data nodes have no encoder edge; isobar graph info {} says more\n",
                    built.graph.uncovered, file);
  }
  if (arguments.json != "-") std::fputs(text.c_str(), stdout);
  write_report(arguments.json, "isobar.graph_build.1", arguments.command,
               nlohmann::json::array({row}));
  return 0;
}

/// Prints what a graph is and what is amiss with it. Returns the exit code: what is
/// amiss does not change it.
int run_graph_info(const GraphArguments& arguments) {
  if (other_rank()) return 0;
  Progress progress({.label = "graph", .total = 2, .unit = "stage"});
  const auto data = arguments.file.empty() ? std::nullopt : find_file_grid(arguments.file);
  const StoredGraph stored = data                     ? build_on(*data, arguments)
                             : arguments.file.empty() ? build(arguments)
                                                      : load(arguments.file);
  progress.update(1);
  const GraphReport report = inspect_graph(stored.graph, stored.options, arguments.ranks);
  progress.update(2);
  progress.finish();

  const auto method = parse_partition_method(arguments.partition);
  const auto text = graph_line(stored) + graph_table(report, method) +
                    (data ? levels_table(stored.graph.data) : std::string());
  if (arguments.json != "-") std::fputs(text.c_str(), stdout);
  write_report(arguments.json, "isobar.graph_info.1", arguments.command,
               graph_rows(stored, report, method));
  return 0;
}

const RegisteredCommand kGraphBuild{
    {.place = 70,
     .group = "graph",
     .name = "build",
     .description = "Build a mesh and write it to a file",
     .example = "isobar graph build --grid N320 --hidden 6 --output n320-ico6.h5",
     .add = with_arguments(add_graph_build_options, run_graph_build)}};

const RegisteredCommand kGraphInfo{{.place = 71,
                                    .group = "graph",
                                    .name = "info",
                                    .description = "Show a mesh and what is wrong with it",
                                    .example = "isobar graph info era5.nc --hidden 6 --ranks 4",
                                    .add = with_arguments(add_graph_info_options, run_graph_info)}};

}  // namespace
}  // namespace isobar
