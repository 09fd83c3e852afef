// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/graph_shard.hpp>
#include <isobar/graph/weather_graph.hpp>
#include <isobar/model/graph_conv.hpp>
#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isobar {

class Communicator;

struct WeatherGnnOptions {
  int64_t features_in = 0;   ///< columns of the input: variables times input steps
  int64_t features_out = 0;  ///< columns of the output
  int64_t channels = 64;     ///< width of all latents, C
  int64_t layers = 4;        ///< processor blocks, each with weights of its own
  int64_t node_table = 8;    ///< trainable values a graph node; 0 for none
  int64_t edge_table = 8;    ///< trainable values an edge; 0 for none
  uint64_t seed = 0;         ///< of the initial weights, see initialize_parameters
  /// What is computed in: bfloat16 or float16 for 16-bit products, latents and
  /// messages over float32 parameters; Undefined: the parameters' own type.
  c10::ScalarType compute = c10::ScalarType::Undefined;
  Activations activations = Activations::keep;
  /// The most edges of an edge set that are computed together; 0: a number that
  /// suits the CPU's cache or, on another device, its memory.
  int64_t chunk_edges = 0;
  /// Memory of the device that computes, where that is no CPU (TensorMemory::capacity);
  /// 0: a CPU computes. A device is asked for every operation on every chunk, so its
  /// chunks are as large as the memory allows.
  int64_t device_memory_bytes = 0;
};

/// Rows of a parameter that a rank of the model owns.
struct OwnedRows {
  at::Tensor rows;    ///< [n] int64: their place in the whole parameter
  int64_t total = 0;  ///< rows of the whole parameter
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
/// Over several ranks each holds one GraphShard, owns its rows of inputs, outputs
/// and tables, and all hold the same other parameters. forward and backward
/// exchange halos, so all ranks run the same passes. The gradient that a rank
/// gets is that of the sum of the ranks' losses as far as its rows contribute:
/// tables (owned_rows) whole, all other parameters a share to be summed.
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
  /// One rank's part. `model` are the ranks that share the graph, in the order of
  /// its partition; it must outlive the network.
  WeatherGnn(const WeatherGnnOptions& options, const GraphShard& shard, Communicator& model);
  ~WeatherGnn() override;

  /// [B, N, features_in] -> [B, N, features_out], in the order of the graph's data
  /// grid or, of a shard, of its data_rows; the result has the parameters' type.
  /// Throws UsageError for another shape.
  at::Tensor forward(const at::Tensor& x) const;

  /// The rows that this rank owns of a table, by the parameter's name; nothing for
  /// a parameter that all ranks of the model hold.
  std::optional<OwnedRows> owned_rows(const std::string& parameter) const;

  const WeatherGnnOptions& options() const { return options_; }

 private:
  /// What the mesh knows of its graph nodes or edges: fixed columns and, if
  /// there is one, a trainable table.
  struct Attributes {
    at::Tensor fixed;
    at::Tensor table;
    OwnedRows owned;

    /// [1, rows, columns] each, in the type `compute`.
    std::vector<at::Tensor> parts(c10::ScalarType compute) const;
    int64_t width() const { return fixed.size(1) + (table.defined() ? table.size(1) : 0); }
  };
  class Encoder;
  class Processor;
  class Decoder;

  WeatherGnn(const WeatherGnnOptions& options, const GraphShard& shard, Communicator* model);
  Attributes add_attributes(const std::string& name, const at::Tensor& fixed, int64_t table_width,
                            const OwnedRows& owned);

  WeatherGnnOptions options_;
  Attributes data_, hidden_, encoder_edges_, processor_edges_, decoder_edges_;
  std::shared_ptr<Encoder> encoder_;
  std::shared_ptr<Processor> processor_;
  std::shared_ptr<Decoder> decoder_;
};

}  // namespace isobar
