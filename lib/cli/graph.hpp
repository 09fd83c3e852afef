// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace isobar {

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

void add_graph_build_options(CLI::App& app, GraphArguments& arguments);
void add_graph_info_options(CLI::App& app, GraphArguments& arguments);

/// Builds a graph and writes its file. Returns the exit code.
int run_graph_build(const GraphArguments& arguments);

/// Prints what a graph is and what is amiss with it. Returns the exit code: what is
/// amiss does not change it.
int run_graph_info(const GraphArguments& arguments);

}  // namespace isobar
