// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/core/file_hash.hpp>
#include <isobar/graph/graph_file.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <system_error>

#include "graph/graph_options.hpp"

namespace isobar {
namespace {

/// Raised when build_graph makes other graphs of the same arguments.
constexpr const char* kBuilder = "1";

/// Of what a graph follows from.
std::string key_of(const Grid& grid, const GraphOptions& options) {
  RunningHash hash;
  hash.add(to_json(options).dump());
  hash.add(kBuilder);
  hash.add(grid.regional ? "region" : "globe");
  for (const at::Tensor& positions : {grid.latitude, grid.longitude}) {
    const at::Tensor values = positions.to(at::kCPU, at::kDouble).contiguous();
    hash.add({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
  }
  return hash.result().xxh3_128;
}

std::filesystem::path file_name(const Grid& grid, const GraphOptions& options,
                                const std::string& key) {
  std::string name = grid.name + "-" +
                     (options.hidden_grid.empty() ? "ico" + std::to_string(options.hidden_level)
                                                  : options.hidden_grid);
  std::replace(name.begin(), name.end(), '/', '_');
  return name + "-" + key.substr(0, 16) + ".h5";
}

/// The graph in the file, if it can be believed; otherwise `warning` says why not.
std::optional<WeatherGraph> load_believed(const std::filesystem::path& file, const std::string& key,
                                          std::string& warning) {
  try {
    StoredGraph stored = load_graph(file);
    if (key_of(stored.graph.data, stored.options) == key) return std::move(stored.graph);
    warning = file.string() + " holds the graph of another grid or of other options";
  } catch (const DataError& error) {
    warning = error.what();
  }
  warning = "graph cache: " + warning + "; the graph was built anew";
  return std::nullopt;
}

std::string keep(const WeatherGraph& graph, const GraphOptions& options,
                 const std::filesystem::path& file) {
  try {
    std::filesystem::create_directories(file.parent_path());
    save_graph(graph, options, file);
    return {};
  } catch (const std::filesystem::filesystem_error& error) {
    return "graph cache: cannot make " + file.parent_path().string() + ": " +
           error.code().message() + "; the graph is built at every start";
  } catch (const Error& error) {
    return std::string("graph cache: ") + error.what() + "; the graph is built at every start";
  }
}

}  // namespace

CachedGraph build_or_load_graph(const Grid& grid, const GraphOptions& options,
                                const std::filesystem::path& folder) {
  const std::string key = key_of(grid, options);
  CachedGraph result{.graph = {}, .file = folder / file_name(grid, options, key)};
  std::error_code ignored;
  if (std::filesystem::exists(result.file, ignored)) {
    if (auto graph = load_believed(result.file, key, result.warning)) {
      result.graph = std::move(*graph);
      result.graph.data = grid;
      result.loaded = true;
      return result;
    }
  }
  result.graph = build_graph(grid, options);
  const std::string not_kept = keep(result.graph, options, result.file);
  if (!not_kept.empty()) result.warning = not_kept;
  return result;
}

}  // namespace isobar
