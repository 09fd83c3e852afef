// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>

#include <filesystem>
#include <string>

namespace isobar {

/// A graph as a file keeps it.
struct StoredGraph {
  WeatherGraph graph;
  GraphOptions options;  ///< that it was built with
  std::string hash;      ///< XXH3-128 of all that the file says, 32 hexadecimal digits
};

/// Writes a graph with its grid as HDF5, complete or not at all, in place of a file
/// that was there. Two graphs that are the same make the same bytes. Throws Error
/// where the file cannot be written.
///
/// The groups are data, hidden, encoder, processor and decoder; the datasets in
/// them latitude, longitude, area, source, destination and attributes, as in Grid
/// and EdgeSet, indices as int32. Each has the XXH3-128 of its bytes beside it, and
/// the file one of its description and these.
void save_graph(const WeatherGraph& graph, const GraphOptions& options,
                const std::filesystem::path& file);

/// Reads what save_graph wrote, without Atlas, also for a grid that has a name.
///
/// Throws DataError, naming file and dataset, unless every byte is the one that was
/// written and every index one of a node.
StoredGraph load_graph(const std::filesystem::path& file);

/// A graph from a cache.
struct CachedGraph {
  WeatherGraph graph;
  std::filesystem::path file;
  bool loaded = false;  ///< from `file`; otherwise it was built
  /// One line for the log: why a file of that name was not taken, or why none could
  /// be kept. Empty where all is well.
  std::string warning = {};
};

/// The graph of build_graph, from `folder` where it was built before; otherwise it
/// is built and kept there. The folder is made if need be.
///
/// The file's name holds a hash of the positions and the options. What a file
/// holds is believed only if it is whole and its positions and options are
/// these: otherwise the graph is built, the file replaced, and a warning given.
/// Processes may do this at the same time in one folder. `grid.area` and
/// `grid.name` of the result are the caller's.
CachedGraph build_or_load_graph(const Grid& grid, const GraphOptions& options,
                                const std::filesystem::path& folder);

}  // namespace isobar
