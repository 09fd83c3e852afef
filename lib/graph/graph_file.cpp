// SPDX-License-Identifier: Apache-2.0
// Called by the cache of graphs and by `isobar graph`, on one thread, which holds HDF5's lock from
// opening to closing.
//
// Each array lies beside a hash of its bytes, and the file has one of its description and of all
// names and hashes, in the order in which they are written: GraphWriter and GraphReader go through
// the arrays in one order. Without it an array of another graph, whole by itself, would pass.
// Indices are compared with the numbers of nodes here: the kernels that gather rows by them check
// nothing.
#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/file_hash.hpp>
#include <isobar/graph/graph_file.hpp>
#include <isobar/hdf5/arrays.hpp>
#include <isobar/hdf5/attribute.hpp>
#include <isobar/hdf5/file.hpp>
#include <ATen/ATen.h>
#include <hdf5.h>
#include <nlohmann/json.hpp>

#include <limits>

#include "graph/graph_options.hpp"

namespace isobar {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "isobar.graph.1";

/// What a file says of itself, apart from its arrays.
json describe(const WeatherGraph& graph, const GraphOptions& options) {
  return {{"format", kFormat},
          {"grid", graph.data.name},
          {"regional", graph.data.regional},
          {"uncovered", graph.uncovered},
          {"options", to_json(options)}};
}

/// Writes the arrays of a graph and gathers their names and hashes.
class GraphWriter {
 public:
  GraphWriter(hid_t file, std::string text) : file_(file), text_(std::move(text)) {}

  void write(const std::string& name, const at::Tensor& values) {
    text_ += "\n" + name + " " + write_array(file_, name, values.to(at::kCPU).contiguous());
  }

  void write(const std::string& group, const EdgeSet& edges) {
    write(group + "/source", edges.source.to(at::kInt));
    write(group + "/destination", edges.destination.to(at::kInt));
    write(group + "/attributes", edges.attributes);
  }

  std::string hash() const { return hash_text(text_); }

 private:
  hid_t file_;
  std::string text_;
};

/// The counterpart of GraphWriter.
class GraphReader {
 public:
  GraphReader(hid_t file, const std::filesystem::path& path, std::string text)
      : file_(file), path_(path), text_(std::move(text)) {}

  at::Tensor read(const std::string& name, at::ScalarType type, const std::vector<int64_t>& shape) {
    const auto [values, hash] = read_array(
        file_, path_, name,
        {.type = type, .shape = shape, .owner = "a graph", .remedy = "build the graph again"});
    text_ += "\n" + name + " " + hash;
    return values;
  }

  EdgeSet read(const std::string& group, int64_t sources, int64_t destinations) {
    EdgeSet edges{read_ends(group + "/source", -1, sources), {}, {}, sources, destinations};
    edges.destination = read_ends(group + "/destination", edges.size(), destinations);
    edges.attributes = read(group + "/attributes", at::kFloat, {edges.size(), 3});
    if (edges.size() > 1 && edges.destination.diff().min().item<int64_t>() < 0) {
      throw DataError(detail::join(path_.string(), ": ", group, "/destination falls"));
    }
    return edges;
  }

  std::string hash() const { return hash_text(text_); }

 private:
  at::Tensor read_ends(const std::string& name, int64_t size, int64_t nodes) {
    at::Tensor ends = read(name, at::kInt, {size}).to(at::kLong);
    if (ends.numel() > 0 &&
        (ends.min().item<int64_t>() < 0 || ends.max().item<int64_t>() >= nodes)) {
      throw DataError(detail::join(path_.string(), ": ", name, " names nodes that there are not"));
    }
    return ends;
  }

  hid_t file_;
  const std::filesystem::path& path_;
  std::string text_;
};

void write_graph(const WeatherGraph& graph, const std::string& description,
                 const std::filesystem::path& path) {
  const Hdf5Session session;
  const Hdf5Handle file = create_file(path);
  for (const char* group : {"data", "hidden", "encoder", "processor", "decoder"}) {
    create_group(file.get(), group);
  }
  GraphWriter writer(file.get(), description);
  writer.write("data/latitude", graph.data.latitude.to(at::kDouble));
  writer.write("data/longitude", graph.data.longitude.to(at::kDouble));
  writer.write("data/area", graph.data.area.to(at::kDouble));
  writer.write("hidden/latitude", graph.hidden_latitude);
  writer.write("hidden/longitude", graph.hidden_longitude);
  writer.write("encoder", graph.encoder);
  writer.write("processor", graph.processor);
  writer.write("decoder", graph.decoder);
  write_text(file.get(), "description", description);
  write_text(file.get(), "hash", writer.hash());
  // A full disk may be told here alone, which a handle's end would keep to itself.
  check_status(H5Fflush(file.get(), H5F_SCOPE_GLOBAL), path.string());
}

json parse_description(const std::string& text, const std::filesystem::path& path) {
  json description = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!description.is_object() || description.value("format", "") != kFormat) {
    throw DataError(detail::join(path.string(), ": wanted a graph of format ", kFormat,
                                 ", which this is not; build the graph again"));
  }
  return description;
}

WeatherGraph read_graph(GraphReader& reader, const json& description) {
  WeatherGraph graph;
  graph.data.latitude = reader.read("data/latitude", at::kDouble, {-1});
  const int64_t nodes = graph.data.size();
  graph.data.longitude = reader.read("data/longitude", at::kDouble, {nodes});
  graph.data.area = reader.read("data/area", at::kDouble, {nodes});
  graph.hidden_latitude = reader.read("hidden/latitude", at::kDouble, {-1});
  const int64_t hidden = graph.hidden_latitude.size(0);
  graph.hidden_longitude = reader.read("hidden/longitude", at::kDouble, {hidden});
  graph.encoder = reader.read("encoder", nodes, hidden);
  graph.processor = reader.read("processor", hidden, hidden);
  graph.decoder = reader.read("decoder", hidden, nodes);
  graph.data.name = description.at("grid").get<std::string>();
  graph.data.regional = description.at("regional").get<bool>();
  graph.uncovered = description.at("uncovered").get<int64_t>();
  return graph;
}

}  // namespace

void save_graph(const WeatherGraph& graph, const GraphOptions& options,
                const std::filesystem::path& file) {
  constexpr int64_t limit = std::numeric_limits<int32_t>::max();
  ISOBAR_CHECK(std::max(graph.data_nodes(), graph.hidden_nodes()) <= limit,
               "save_graph: a file holds up to ", limit, " nodes of a kind, got ",
               graph.data_nodes(), " and ", graph.hidden_nodes());
  AtomicFile whole(file);
  write_graph(graph, describe(graph, options).dump(), whole.temporary());
  whole.commit();
}

StoredGraph load_graph(const std::filesystem::path& path) {
  const Hdf5Session session;
  const Hdf5Handle file = open_to_read(path, path.string() + ": cannot be opened as HDF5");
  const std::string text = read_text(file.get(), "description", path.string() + ": description");
  const std::string wanted = read_text(file.get(), "hash", path.string() + ": hash");
  const json description = parse_description(text, path);
  GraphReader reader(file.get(), path, text);
  try {
    WeatherGraph graph = read_graph(reader, description);
    if (reader.hash() != wanted) {
      throw DataError(detail::join(path.string(),
                                   ": description is damaged or an array is another "
                                   "graph's; build the graph again"));
    }
    return {std::move(graph), options_from(description.at("options")), wanted};
  } catch (const json::exception& error) {
    throw DataError(detail::join(path.string(), ": description: ", error.what()));
  }
}

}  // namespace isobar
