// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>
#include <isobar/model/graph_conv.hpp>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>

namespace isobar {

struct WeatherGnnOptions {
  int64_t features_in = 0;   ///< columns of the input: variables times input steps
  int64_t features_out = 0;  ///< columns of the output
  int64_t channels = 64;     ///< width of all latents, C
  int64_t layers = 4;        ///< processor blocks, each with weights of its own
  int64_t node_table = 8;    ///< trainable values a graph node; 0 for none
  int64_t edge_table = 8;    ///< trainable values an edge; 0 for none
  uint64_t seed = 0;         ///< of the initial weights, see initialize_parameters
};

/// The message-passing network of AIFS-like weather models (anemoi-models'
/// `gnn`): encoder from the data grid to the hidden mesh, processor on it,
/// decoder back, on one WeatherGraph.
///
///     data row    x, node attributes (4), table      -> embedded, C
///     hidden row  node attributes (4), table         -> embedded, C
///     edge row    edge attributes (3), table         -> embedded, C
///     encoder     MessageBlock data -> hidden; data += MLP([data, data]), same MLP
///     processor   `layers` MessageBlocks, edge state carried through;
///                 its result is added to what the encoder gave (latent skip)
///     decoder     MessageBlock hidden -> data, onto the encoder's updated data
///     extractor   MLP C -> features_out without LayerNorm
///
/// The result is the network's raw output. A model that predicts tendencies
/// adds the last input step's prognostic columns to it; that is the caller's,
/// who knows which columns those are.
///
/// Parameters, with anemoi's state dict in brackets where it differs:
/// `encoder.` (encoder.0.) emb_nodes_src, emb_nodes_dst, emb_edges,
/// proc.conv.edge_mlp, proc.node_mlp; `processor.I.` (processor.proc.I.)
/// conv.edge_mlp, node_mlp and, of block 0, emb_edges; `decoder.` (decoder.0.)
/// emb_edges, proc.conv.edge_mlp, proc.node_mlp, node_data_extractor; and the
/// tables data_table, hidden_table, encoder_table, processor_table and
/// decoder_table, [rows, width] each. The mesh is in buffers: attributes here,
/// indices in EdgeIndex.
class WeatherGnn : public torch::nn::Module {
 public:
  /// Copies what it needs of `graph`. float32 on the CPU; `to` moves it.
  /// Throws UsageError if an option is out of range.
  WeatherGnn(const WeatherGnnOptions& options, const WeatherGraph& graph);
  ~WeatherGnn() override;

  /// [B, N_data, features_in] -> [B, N_data, features_out], in the rows' order
  /// of the graph's data grid. Throws UsageError for another shape.
  at::Tensor forward(const at::Tensor& x) const;

  const WeatherGnnOptions& options() const { return options_; }

 private:
  /// What the mesh knows of its graph nodes or edges: fixed columns and, if
  /// there is one, a trainable table.
  struct Attributes {
    at::Tensor fixed;
    at::Tensor table;

    at::Tensor rows() const;
    int64_t width() const { return fixed.size(1) + (table.defined() ? table.size(1) : 0); }
  };
  class Encoder;
  class Processor;
  class Decoder;

  Attributes add_attributes(const std::string& name, const at::Tensor& fixed, int64_t table_width);

  WeatherGnnOptions options_;
  Attributes data_, hidden_, encoder_edges_, processor_edges_, decoder_edges_;
  std::shared_ptr<Encoder> encoder_;
  std::shared_ptr<Processor> processor_;
  std::shared_ptr<Decoder> decoder_;
};

}  // namespace isobar
