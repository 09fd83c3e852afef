// SPDX-License-Identifier: Apache-2.0
// Built on one thread, where a run is set up or by a user, and run on the caller's; the backward
// pass is autograd's, through the functions of edge_messages.cpp and mlp_rows.cpp.
//
// Every rank of a model builds the same modules and runs the same passes. Each MessageBlock makes
// one exchange of halos forwards and one backwards, on a rank without edges or halo too: a rank
// that left a block out would let the others wait for its rows. So which passes are run follows
// from options, never from values or from how many rows a rank has. Each block reads what the one
// before has made; hence autograd comes to the exchanges in the reverse order, on every rank.
#include <isobar/core/error.hpp>
#include <isobar/model/initialize.hpp>
#include <isobar/model/memory_plan.hpp>
#include <isobar/model/mlp.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

namespace isobar {
namespace {

std::shared_ptr<Mlp> embedding(int64_t in, int64_t channels) {
  return std::make_shared<Mlp>(MlpOptions{.in = in, .hidden = channels, .out = channels});
}

void check_options(const WeatherGnnOptions& options) {
  const std::tuple<const char*, int64_t, int64_t> wanted[] = {
      {"features_in", options.features_in, 1}, {"features_out", options.features_out, 1},
      {"channels", options.channels, 1},       {"layers", options.layers, 1},
      {"node_table", options.node_table, 0},   {"edge_table", options.edge_table, 0}};
  for (const auto& [name, value, least] : wanted) {
    ISOBAR_CHECK(value >= least, "WeatherGnn: ", name, " must be at least ", least, ", got ",
                 value);
  }
}

/// What the encoder, the processor and the decoder know of their edges.
ConvOptions conv_options(const WeatherGnnOptions& options, const EdgeShard& shard,
                         Communicator* model) {
  ConvOptions conv;
  conv.activations = options.activations;
  conv.index = std::make_shared<EdgeIndex>(
      shard.edges,
      EdgeIndexOptions{.chunk_edges = chunk_edges_of(options), .interior = shard.interior});
  if (model) conv.exchange = std::make_shared<HaloExchange>(shard.halo, *model);
  return conv;
}

/// Edges that are embedded at once or, where activations are recomputed, with each chunk.
EdgeInput edge_input(const std::vector<at::Tensor>& parts, const std::shared_ptr<Mlp>& embedding,
                     Activations activations) {
  if (activations == Activations::recompute) return {parts, embedding};
  return {{embedding->forward(parts, {})}};
}

}  // namespace

class WeatherGnn::Encoder : public torch::nn::Module {
 public:
  Encoder(int64_t data_width, int64_t hidden_width, int64_t edge_width, int64_t channels,
          ConvOptions conv)
      : emb_nodes_src_(register_module("emb_nodes_src", embedding(data_width, channels))),
        emb_nodes_dst_(register_module("emb_nodes_dst", embedding(hidden_width, channels))),
        emb_edges_(register_module("emb_edges", embedding(edge_width, channels))),
        proc_(register_module("proc", std::make_shared<MessageBlock>(channels))),
        conv_(std::move(conv)) {
    register_module("index", std::const_pointer_cast<EdgeIndex>(conv_.index));
  }

  /// The latents of the data and of the hidden mesh.
  std::pair<at::Tensor, at::Tensor> forward(const std::vector<at::Tensor>& data,
                                            const std::vector<at::Tensor>& hidden,
                                            const std::vector<at::Tensor>& edges) const {
    const auto activations = conv_.activations;
    const at::Tensor sources = emb_nodes_src_->forward(data, {.activations = activations});
    const auto updated = proc_->forward(
        sources, emb_nodes_dst_->forward(hidden, {.activations = activations}),
        edge_input(edges, emb_edges_, activations), conv_, GraphConv::Messages::unwanted);
    return {proc_->update_sources(sources, activations), updated.destinations};
  }

 private:
  std::shared_ptr<Mlp> emb_nodes_src_, emb_nodes_dst_, emb_edges_;
  std::shared_ptr<MessageBlock> proc_;
  ConvOptions conv_;
};

class WeatherGnn::Processor : public torch::nn::Module {
 public:
  Processor(int64_t edge_width, int64_t channels, int64_t layers, ConvOptions conv)
      : conv_(std::move(conv)) {
    register_module("index", std::const_pointer_cast<EdgeIndex>(conv_.index));
    for (int64_t i = 0; i < layers; ++i) {
      blocks_.push_back(
          register_module(std::to_string(i), std::make_shared<MessageBlock>(channels)));
    }
    emb_edges_ = blocks_.front()->register_module("emb_edges", embedding(edge_width, channels));
  }

  at::Tensor forward(at::Tensor nodes, const std::vector<at::Tensor>& edges) const {
    at::Tensor state = emb_edges_->forward(edges, {.activations = conv_.activations});
    for (const auto& block : blocks_) {
      const auto updated = block->forward(
          nodes, nodes, {{state}}, conv_,
          block == blocks_.back() ? GraphConv::Messages::unwanted : GraphConv::Messages::wanted);
      nodes = updated.destinations;
      state = updated.edges;
    }
    return nodes;
  }

 private:
  ConvOptions conv_;
  std::vector<std::shared_ptr<MessageBlock>> blocks_;
  std::shared_ptr<Mlp> emb_edges_;
};

class WeatherGnn::Decoder : public torch::nn::Module {
 public:
  Decoder(int64_t edge_width, int64_t channels, int64_t features_out, ConvOptions conv)
      : emb_edges_(register_module("emb_edges", embedding(edge_width, channels))),
        proc_(register_module("proc", std::make_shared<MessageBlock>(channels))),
        node_data_extractor_(register_module(
            "node_data_extractor",
            std::make_shared<Mlp>(MlpOptions{
                .in = channels, .hidden = channels, .out = features_out, .layer_norm = false}))),
        conv_(std::move(conv)) {
    register_module("index", std::const_pointer_cast<EdgeIndex>(conv_.index));
  }

  at::Tensor forward(const at::Tensor& hidden, const at::Tensor& data,
                     const std::vector<at::Tensor>& edges) const {
    const auto updated =
        proc_->forward(hidden, data, edge_input(edges, emb_edges_, conv_.activations), conv_,
                       GraphConv::Messages::unwanted);
    return node_data_extractor_->forward({updated.destinations},
                                         {.activations = conv_.activations});
  }

 private:
  std::shared_ptr<Mlp> emb_edges_;
  std::shared_ptr<MessageBlock> proc_;
  std::shared_ptr<Mlp> node_data_extractor_;
  ConvOptions conv_;
};

std::vector<at::Tensor> WeatherGnn::Attributes::parts(c10::ScalarType compute) const {
  std::vector<at::Tensor> columns{fixed.to(compute).unsqueeze(0)};
  if (table.defined()) columns.push_back(table.to(compute).unsqueeze(0));
  return columns;
}

WeatherGnn::Attributes WeatherGnn::add_attributes(const std::string& name, const at::Tensor& fixed,
                                                  int64_t table_width, const OwnedRows& owned) {
  Attributes result{register_buffer(name + "_attributes", fixed.clone()), {}, owned};
  if (table_width > 0) {
    result.table = register_parameter(name + "_table", at::zeros({fixed.size(0), table_width}));
  }
  return result;
}

WeatherGnn::WeatherGnn(const WeatherGnnOptions& options, const WeatherGraph& graph)
    : WeatherGnn(options, make_shard(graph), nullptr) {}

WeatherGnn::WeatherGnn(const WeatherGnnOptions& options, const GraphShard& shard,
                       Communicator& model)
    : WeatherGnn(options, shard, &model) {}

WeatherGnn::WeatherGnn(const WeatherGnnOptions& options, const GraphShard& shard,
                       Communicator* model)
    : options_(options) {
  check_options(options);
  const int64_t channels = options.channels;
  const auto nodes = [&](const char* name, const at::Tensor& fixed, const OwnedRows& owned) {
    return add_attributes(name, fixed, options.node_table, owned);
  };
  const auto edges = [&](const char* name, const EdgeShard& part, int64_t total) {
    return add_attributes(name, part.edges.attributes, options.edge_table, {part.rows, total});
  };
  data_ = nodes("data", shard.data_attributes, {shard.data_rows, shard.data_nodes});
  hidden_ = nodes("hidden", shard.hidden_attributes, {shard.hidden_rows, shard.hidden_nodes});
  encoder_edges_ = edges("encoder", shard.encoder, shard.encoder_edges);
  processor_edges_ = edges("processor", shard.processor, shard.processor_edges);
  decoder_edges_ = edges("decoder", shard.decoder, shard.decoder_edges);
  encoder_ = register_module(
      "encoder", std::make_shared<Encoder>(options.features_in + data_.width(), hidden_.width(),
                                           encoder_edges_.width(), channels,
                                           conv_options(options, shard.encoder, model)));
  processor_ = register_module(
      "processor", std::make_shared<Processor>(processor_edges_.width(), channels, options.layers,
                                               conv_options(options, shard.processor, model)));
  decoder_ = register_module(
      "decoder", std::make_shared<Decoder>(decoder_edges_.width(), channels, options.features_out,
                                           conv_options(options, shard.decoder, model)));
  initialize_parameters(*this, options.seed);
}

WeatherGnn::~WeatherGnn() = default;

std::optional<OwnedRows> WeatherGnn::owned_rows(const std::string& parameter) const {
  const std::pair<const char*, const Attributes*> tables[] = {
      {"data_table", &data_},
      {"hidden_table", &hidden_},
      {"encoder_table", &encoder_edges_},
      {"processor_table", &processor_edges_},
      {"decoder_table", &decoder_edges_}};
  for (const auto& [name, attributes] : tables) {
    if (parameter == name && attributes->table.defined()) return attributes->owned;
  }
  return std::nullopt;
}

// The ranks' exchanges cannot wait for each other in a circle. There is one order of them (encoder,
// processor blocks, decoder, and back), on one communicator, and a rank that waits for one has
// started it and all before. Take the first that any rank waits for: the others have started it, or
// wait for none before it and so will. Buckets of gradients, whose hooks run in between, go over
// communicators of their own, and hooks never block.
at::Tensor WeatherGnn::forward(const at::Tensor& x) const {
  ISOBAR_CHECK(
      x.dim() == 3 && x.size(1) == data_.fixed.size(0) && x.size(2) == options_.features_in,
      "WeatherGnn: input must be [batch, ", data_.fixed.size(0), ", ", options_.features_in,
      "], got ", x.sizes());
  const auto own = data_.fixed.scalar_type();
  const auto compute = options_.compute == c10::ScalarType::Undefined ? own : options_.compute;
  std::vector<at::Tensor> rows = data_.parts(compute);
  rows.insert(rows.begin(), x.to(compute));
  const auto [data, hidden] =
      encoder_->forward(rows, hidden_.parts(compute), encoder_edges_.parts(compute));
  const at::Tensor processed = processor_->forward(hidden, processor_edges_.parts(compute));
  return decoder_->forward(processed + hidden, data, decoder_edges_.parts(compute)).to(own);
}

}  // namespace isobar
