// SPDX-License-Identifier: Apache-2.0
// Called by compare_parity(), on every rank, and by `isobar bench step --dump-graph`. Another
// program has written the file, so that every shape, index and number that the network relies on is
// checked here, by file and data set, before anything is computed with it.
#include <isobar/weather/parity_case.hpp>

#include <isobar/core/error.hpp>
#include <isobar/hdf5/tensors.hpp>
#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <array>
#include <numbers>
#include <utility>

namespace isobar {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 8> kNames{{
    {"data_table", "node_attributes.trainable_tensors.data.trainable"},
    {"hidden_table", "node_attributes.trainable_tensors.hidden.trainable"},
    {"encoder_table", "encoder_graph_provider.data.trainable.trainable"},
    {"processor_table", "processor_graph_provider.trainable.trainable"},
    {"decoder_table", "decoder_graph_provider.data.trainable.trainable"},
    {"encoder.", "encoder.0."},
    {"processor.", "processor.proc."},
    {"decoder.", "decoder.0."},
}};

const std::vector<std::string>& network_names(int64_t layers) {
  static thread_local std::vector<std::string> names;
  names.clear();
  const auto add = [](const std::string& mlp, bool norm) {
    for (const char* part : {"mlp.0", "mlp.2", "mlp.4", "layer_norm"}) {
      if (!norm && part == std::string("layer_norm")) continue;
      for (const char* kind : {".weight", ".bias"}) names.push_back(mlp + "." + part + kind);
    }
  };
  for (const char* mlp :
       {"encoder.emb_nodes_src", "encoder.emb_nodes_dst", "encoder.emb_edges",
        "encoder.proc.conv.edge_mlp", "encoder.proc.node_mlp", "processor.0.emb_edges",
        "decoder.emb_edges", "decoder.proc.conv.edge_mlp", "decoder.proc.node_mlp"}) {
    add(mlp, true);
  }
  for (int64_t i = 0; i < layers; ++i) {
    const auto block = "processor." + std::to_string(i);
    add(block + ".conv.edge_mlp", true);
    add(block + ".node_mlp", true);
  }
  add("decoder.node_data_extractor", false);
  return names;
}

Positions positions(const Hdf5Tensors& file, const std::string& nodes) {
  const auto degrees =
      file.read("graph/nodes/" + nodes + "/latlon").to(at::kDouble) * (180 / std::numbers::pi);
  return {degrees.select(1, 0).contiguous(), degrees.select(1, 1).contiguous()};
}

EdgeSet edges(const Hdf5Tensors& file, const std::string& part, int64_t sources,
              int64_t destinations) {
  const auto index = file.read("graph/edges/" + part + "/index").to(at::kLong);
  EdgeSet set{index[0].contiguous(), index[1].contiguous(),
              file.read("graph/edges/" + part + "/attr"), sources, destinations};
  const bool sorted = set.destination.diff().ge(0).all().item<bool>();
  const bool within = index.ge(0).all().item<bool>() && set.source.lt(sources).all().item<bool>() &&
                      set.destination.lt(destinations).all().item<bool>();
  if (!sorted || !within) {
    throw DataError(detail::join(
        "graph/edges/", part, ": ",
        within ? "edges are not sorted by destination" : "an edge ends outside the graph"));
  }
  return set;
}

WeatherGraph graph_of(const Hdf5Tensors& file) {
  const auto data = positions(file, "data"), hidden = positions(file, "hidden");
  const int64_t n = data.latitude.size(0), v = hidden.latitude.size(0);
  WeatherGraph graph;
  graph.data = {.latitude = data.latitude, .longitude = data.longitude, .area = {}, .name = "file"};
  graph.hidden_latitude = hidden.latitude;
  graph.hidden_longitude = hidden.longitude;
  graph.encoder = edges(file, "encoder", n, v);
  graph.processor = edges(file, "processor", v, v);
  graph.decoder = edges(file, "decoder", v, n);
  return graph;
}

std::vector<double> numbers(const at::Tensor& values) {
  const auto all = values.to(at::kDouble).contiguous();
  return {all.const_data_ptr<double>(), all.const_data_ptr<double>() + all.numel()};
}

ParityReference reference(const Hdf5Tensors& file, const std::string& group,
                          const std::string& adamw, const ParityCase& parity) {
  ParityReference result{.output = file.read(group + "output"),
                         .loss = file.read(group + "loss").item().toDouble(),
                         .gradients = {},
                         .adamw_losses = numbers(file.read(adamw))};
  for (const auto& [name, weight] : parity.weights) {
    result.gradients[name] = file.read(group + "grads/" + anemoi_name(name));
  }
  return result;
}

}  // namespace

std::string anemoi_name(const std::string& parameter) {
  for (const auto& [ours, theirs] : kNames) {
    const std::string prefix = ours;
    if (parameter.starts_with(prefix)) return theirs + parameter.substr(prefix.size());
  }
  throw UsageError(detail::join("parity: '", parameter, "' is no parameter of a WeatherGnn"));
}

void write_parity_graph(const std::string& path, const WeatherGraph& graph) {
  Hdf5TensorWriter file(path);
  const auto write_nodes = [&](const std::string& name, const at::Tensor& latitude,
                               const at::Tensor& longitude) {
    const auto radians = at::stack({latitude, longitude}, 1) * (std::numbers::pi / 180);
    file.write("graph/nodes/" + name + "/latlon", radians.to(at::kFloat));
    file.write("graph/nodes/" + name + "/sincos", node_attributes(latitude, longitude));
  };
  const auto write_edges = [&](const std::string& name, const EdgeSet& set) {
    file.write("graph/edges/" + name + "/index",
               at::stack({set.source, set.destination}).to(at::kInt));
    file.write("graph/edges/" + name + "/attr", set.attributes);
  };
  write_nodes("data", graph.data.latitude, graph.data.longitude);
  write_nodes("hidden", graph.hidden_latitude, graph.hidden_longitude);
  write_edges("encoder", graph.encoder);
  write_edges("processor", graph.processor);
  write_edges("decoder", graph.decoder);
  file.write("area_weights", graph.data.area.to(at::kFloat));
}

ParityCase read_parity_case(const std::string& path) {
  const Hdf5Tensors file(path);
  ParityCase parity;
  parity.graph = graph_of(file);
  parity.data_attributes = file.read("graph/nodes/data/sincos");
  parity.hidden_attributes = file.read("graph/nodes/hidden/sincos");
  parity.area = file.read("area_weights");
  const auto steps = file.read("input");
  parity.input = steps.permute({1, 0, 2}).flatten(1).unsqueeze(0).contiguous();
  parity.target = file.read("target");
  const auto config = nlohmann::json::parse(file.text("config"), nullptr, false);
  const int64_t diagnostic = config.is_object() ? config.value("diagnostic", int64_t{0}) : 0;
  parity.latest = steps[steps.size(0) - 1].narrow(1, 0, parity.target.size(1) - diagnostic);

  const auto weight = [&](const std::string& name) {
    return file.read("weights/" + anemoi_name(name));
  };
  while (file.has("weights/" + anemoi_name("processor." + std::to_string(parity.layers) +
                                           ".node_mlp.mlp.0.bias"))) {
    ++parity.layers;
  }
  for (const auto& name : network_names(parity.layers)) parity.weights[name] = weight(name);
  for (const char* table :
       {"data_table", "hidden_table", "encoder_table", "processor_table", "decoder_table"}) {
    if (file.has("weights/" + anemoi_name(table))) parity.weights[table] = weight(table);
  }
  const auto width = [&](const char* table) {
    const auto found = parity.weights.find(table);
    return found == parity.weights.end() ? 0 : found->second.size(1);
  };
  parity.channels = parity.weights.at("encoder.emb_edges.mlp.0.bias").size(0);
  parity.node_table = width("data_table");
  parity.edge_table = width("encoder_table");
  parity.float32 = reference(file, "", "adamw/loss", parity);
  parity.float64 = reference(file, "ref64/", "ref64/adamw_loss", parity);
  return parity;
}

}  // namespace isobar
