// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/initialize.hpp>
#include <isobar/model/mlp.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <ATen/ATen.h>

#include <tuple>
#include <utility>
#include <vector>

namespace isobar {
namespace {

std::shared_ptr<Mlp> embedding(int64_t in, int64_t channels) {
  return std::make_shared<Mlp>(MlpOptions{.in = in, .hidden = channels, .out = channels});
}

void check(const WeatherGnnOptions& options) {
  const std::tuple<const char*, int64_t, int64_t> wanted[] = {
      {"features_in", options.features_in, 1}, {"features_out", options.features_out, 1},
      {"channels", options.channels, 1},       {"layers", options.layers, 1},
      {"node_table", options.node_table, 0},   {"edge_table", options.edge_table, 0}};
  for (const auto& [name, value, least] : wanted) {
    ISOBAR_CHECK(value >= least, "WeatherGnn: ", name, " must be at least ", least, ", got ",
                 value);
  }
}

}  // namespace

class WeatherGnn::Encoder : public torch::nn::Module {
 public:
  Encoder(int64_t data_width, int64_t hidden_width, int64_t edge_width, int64_t channels,
          const EdgeSet& edges)
      : emb_nodes_src_(register_module("emb_nodes_src", embedding(data_width, channels))),
        emb_nodes_dst_(register_module("emb_nodes_dst", embedding(hidden_width, channels))),
        emb_edges_(register_module("emb_edges", embedding(edge_width, channels))),
        proc_(register_module("proc", std::make_shared<MessageBlock>(channels))),
        index_(register_module("index", std::make_shared<EdgeIndex>(edges))) {}

  /// The latents of the data and of the hidden mesh.
  std::pair<at::Tensor, at::Tensor> forward(const at::Tensor& data, const at::Tensor& hidden,
                                            const at::Tensor& edges) const {
    const at::Tensor sources = emb_nodes_src_->forward(data);
    const auto updated = proc_->forward(sources, emb_nodes_dst_->forward(hidden),
                                        emb_edges_->forward(edges), *index_);
    return {proc_->update_sources(sources), updated.destinations};
  }

 private:
  std::shared_ptr<Mlp> emb_nodes_src_, emb_nodes_dst_, emb_edges_;
  std::shared_ptr<MessageBlock> proc_;
  std::shared_ptr<EdgeIndex> index_;
};

class WeatherGnn::Processor : public torch::nn::Module {
 public:
  Processor(int64_t edge_width, int64_t channels, int64_t layers, const EdgeSet& edges)
      : index_(register_module("index", std::make_shared<EdgeIndex>(edges))) {
    for (int64_t i = 0; i < layers; ++i) {
      blocks_.push_back(
          register_module(std::to_string(i), std::make_shared<MessageBlock>(channels)));
    }
    emb_edges_ = blocks_.front()->register_module("emb_edges", embedding(edge_width, channels));
  }

  at::Tensor forward(at::Tensor nodes, const at::Tensor& edges) const {
    at::Tensor state = emb_edges_->forward(edges);
    for (const auto& block : blocks_) {
      const auto updated = block->forward(nodes, nodes, state, *index_);
      nodes = updated.destinations;
      state = updated.edges;
    }
    return nodes;
  }

 private:
  std::shared_ptr<EdgeIndex> index_;
  std::vector<std::shared_ptr<MessageBlock>> blocks_;
  std::shared_ptr<Mlp> emb_edges_;
};

class WeatherGnn::Decoder : public torch::nn::Module {
 public:
  Decoder(int64_t edge_width, int64_t channels, int64_t features_out, const EdgeSet& edges)
      : emb_edges_(register_module("emb_edges", embedding(edge_width, channels))),
        proc_(register_module("proc", std::make_shared<MessageBlock>(channels))),
        node_data_extractor_(register_module(
            "node_data_extractor",
            std::make_shared<Mlp>(MlpOptions{
                .in = channels, .hidden = channels, .out = features_out, .layer_norm = false}))),
        index_(register_module("index", std::make_shared<EdgeIndex>(edges))) {}

  at::Tensor forward(const at::Tensor& hidden, const at::Tensor& data,
                     const at::Tensor& edges) const {
    const auto updated = proc_->forward(hidden, data, emb_edges_->forward(edges), *index_);
    return node_data_extractor_->forward(updated.destinations);
  }

 private:
  std::shared_ptr<Mlp> emb_edges_;
  std::shared_ptr<MessageBlock> proc_;
  std::shared_ptr<Mlp> node_data_extractor_;
  std::shared_ptr<EdgeIndex> index_;
};

at::Tensor WeatherGnn::Attributes::rows() const {
  const at::Tensor columns = table.defined() ? at::cat({fixed, table}, 1) : fixed;
  return columns.unsqueeze(0);
}

WeatherGnn::Attributes WeatherGnn::add_attributes(const std::string& name, const at::Tensor& fixed,
                                                  int64_t table_width) {
  Attributes result{register_buffer(name + "_attributes", fixed.clone()), {}};
  if (table_width > 0) {
    result.table = register_parameter(name + "_table", at::zeros({fixed.size(0), table_width}));
  }
  return result;
}

WeatherGnn::WeatherGnn(const WeatherGnnOptions& options, const WeatherGraph& graph)
    : options_(options) {
  check(options);
  const auto [in, out, channels, layers, node_table, edge_table, seed] = options;
  data_ = add_attributes("data", node_attributes(graph.data.latitude, graph.data.longitude),
                         node_table);
  hidden_ = add_attributes("hidden", node_attributes(graph.hidden_latitude, graph.hidden_longitude),
                           node_table);
  encoder_edges_ = add_attributes("encoder", graph.encoder.attributes, edge_table);
  processor_edges_ = add_attributes("processor", graph.processor.attributes, edge_table);
  decoder_edges_ = add_attributes("decoder", graph.decoder.attributes, edge_table);
  encoder_ = register_module(
      "encoder", std::make_shared<Encoder>(in + data_.width(), hidden_.width(),
                                           encoder_edges_.width(), channels, graph.encoder));
  processor_ = register_module(
      "processor",
      std::make_shared<Processor>(processor_edges_.width(), channels, layers, graph.processor));
  decoder_ = register_module(
      "decoder", std::make_shared<Decoder>(decoder_edges_.width(), channels, out, graph.decoder));
  initialize_parameters(*this, seed);
}

WeatherGnn::~WeatherGnn() = default;

at::Tensor WeatherGnn::forward(const at::Tensor& x) const {
  ISOBAR_CHECK(
      x.dim() == 3 && x.size(1) == data_.fixed.size(0) && x.size(2) == options_.features_in,
      "WeatherGnn: input must be [batch, ", data_.fixed.size(0), ", ", options_.features_in,
      "], got ", x.sizes());
  const at::Tensor rows = at::cat({x, data_.rows().expand({x.size(0), -1, -1})}, 2);
  const auto [data, hidden] = encoder_->forward(rows, hidden_.rows(), encoder_edges_.rows());
  const at::Tensor processed = processor_->forward(hidden, processor_edges_.rows());
  return decoder_->forward(processed + hidden, data, decoder_edges_.rows());
}

}  // namespace isobar
