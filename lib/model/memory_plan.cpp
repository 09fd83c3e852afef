// SPDX-License-Identifier: Apache-2.0
// Asked on one thread where a run is set up, to choose what the network keeps, and by `isobar
// plan`. Nothing is allocated.
//
// A Stage counts what one call of mlp_rows.cpp or message_pass.cpp allocates, in the order of the
// network: Network::mlp() and conv() change where those change. Were too little predicted, a run
// that was said to fit would run out of memory, perhaps only after hours, where its rollout grows;
// a test compares the peak with what the allocator has counted, to a tenth.
#include <isobar/core/error.hpp>
#include <isobar/model/memory_plan.hpp>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <vector>

#include "model/mlp_core.hpp"

namespace isobar {
namespace {

constexpr int64_t kFewestEdges = 256;  // of a chunk

/// Bytes that are allocated, and the most that ever were.
class LiveBytes {
 public:
  void add(int64_t bytes) {
    now_ += bytes;
    peak_ = std::max(peak_, now_);
  }
  void drop(int64_t bytes) { now_ -= bytes; }
  /// There for a moment.
  void touch(int64_t bytes) { peak_ = std::max(peak_, now_ + bytes); }
  int64_t now() const { return now_; }
  int64_t peak() const { return peak_; }

 private:
  int64_t now_ = 0;
  int64_t peak_ = 0;
};

/// One Mlp over rows, or one GraphConv over edges, in the order of the forward pass.
struct Stage {
  int64_t saved = 0;      ///< left for the backward pass, outputs that others read included
  int64_t forward = 0;    ///< used on the way
  int64_t backward = 0;   ///< used on the way back, gradients that it gives included
  int64_t gradients = 0;  ///< of those, what earlier stages wait for
  double products = 0;    ///< multiplications of the forward pass
};

enum Part { kEncoder, kProcessor, kDecoder, kParts };

class Network {
 public:
  Network(const WeatherGnnOptions& options, const GraphSizes& sizes, const PlanOptions& plan)
      : o_(options), s_(sizes), batch_(plan.batch) {
    const bool own_type = options.compute == c10::ScalarType::Undefined;
    value_ =
        own_type ? plan.parameter_bytes : static_cast<int64_t>(c10::elementSize(options.compute));
    wide_ = value_ == 8 ? 8 : 4;
    keep_ = options.activations == Activations::keep;
    chunk_ = chunk_edges_of(options);
    encode();
    process();
    decode();
  }

  const std::vector<Stage>& stages(Part part) const { return stages_[part]; }
  int64_t input_bytes() const { return batch_ * s_.data_nodes * o_.features_in * value_; }
  int64_t output_bytes(int64_t bytes) const {
    return batch_ * s_.data_nodes * o_.features_out * bytes;
  }

 private:
  int64_t rows(int64_t samples, int64_t count, int64_t width) const {
    return samples * count * width * value_;
  }

  /// `in`: columns of which `wanted` need a gradient.
  void mlp(Part part, int64_t samples, int64_t count, int64_t in, int64_t wanted, int64_t out,
           bool norm) {
    const int64_t c = o_.channels;
    const int64_t together = o_.device_memory_bytes > 0 ? kDeviceBytes : kProcessorBytes;
    const int64_t scratch =
        rows(1, std::min(count, std::max<int64_t>(64, together / (c * value_))), c);
    const int64_t tape = (keep_ ? rows(samples, count, 2 * c + (norm ? out : 0)) : 0);
    Stage stage;
    stage.saved = tape + rows(samples, count, out);
    stage.forward = scratch * (keep_ ? 1 : 4);
    stage.gradients = rows(samples, count, wanted);
    stage.backward = stage.gradients + scratch * (keep_ ? 5 : 8);
    stage.products = static_cast<double>(samples * count) * static_cast<double>(c * (in + c + out));
    stages_[part].push_back(stage);
  }

  /// `embedded`: of edges whose embedding is recomputed chunk by chunk.
  void conv(Part part, int64_t sources, int64_t halo, int64_t destinations, int64_t edges,
            bool messages, bool embedded, bool shared_state) {
    const int64_t c = o_.channels, chunk = std::min(edges, chunk_);
    const int64_t far = rows(batch_, sources + halo, c);
    const int64_t state =
        embedded ? rows(1, edges, table_columns()) : rows(shared_state ? 1 : batch_, edges, c);
    Stage stage;
    stage.saved = (keep_ ? rows(batch_, edges, 3 * c) : rows(batch_, halo, c)) +
                  rows(batch_, destinations, c) + (messages ? rows(batch_, edges, c) : 0);
    stage.forward = far + rows(1, chunk, c) * (keep_ ? 3 : 6);
    stage.gradients = rows(batch_, sources + destinations, c) + state;
    const int64_t scratch = keep_ ? 7 : (embedded ? 16 : 9);
    stage.backward =
        stage.gradients + far * wide_ / value_ + (keep_ ? 0 : far) + rows(1, chunk, c) * scratch;
    const auto products = [&](int64_t count, int64_t each) {
      return static_cast<double>(count) * static_cast<double>(each * c * c);
    };
    stage.products = products(batch_ * (sources + destinations), 1) + products(batch_ * edges, 3) +
                     (embedded ? products(edges, 2) : 0);
    stages_[part].push_back(stage);
  }

  int64_t table_columns() const { return 3 + o_.edge_table; }
  int64_t node_columns() const { return 4 + o_.node_table; }

  void block(Part part, int64_t sources, int64_t halo, int64_t destinations, int64_t edges,
             bool messages, bool embedded, bool shared_state) {
    const int64_t c = o_.channels;
    conv(part, sources, halo, destinations, edges, messages, embedded, shared_state);
    mlp(part, batch_, destinations, 2 * c, 2 * c, c, true);
  }

  void embed_edges(Part part, int64_t edges) {
    if (keep_ || part == kProcessor) {
      mlp(part, 1, edges, table_columns(), o_.edge_table, o_.channels, true);
    }
  }

  void encode() {
    const int64_t c = o_.channels;
    mlp(kEncoder, batch_, s_.data_nodes, o_.features_in + node_columns(), o_.node_table, c, true);
    mlp(kEncoder, 1, s_.hidden_nodes, node_columns(), o_.node_table, c, true);
    embed_edges(kEncoder, s_.encoder_edges);
    block(kEncoder, s_.data_nodes, s_.encoder_halo, s_.hidden_nodes, s_.encoder_edges, false,
          !keep_, true);
    mlp(kEncoder, batch_, s_.data_nodes, c, c, c, true);
  }

  void process() {
    embed_edges(kProcessor, s_.processor_edges);
    for (int64_t i = 0; i < o_.layers; ++i) {
      block(kProcessor, s_.hidden_nodes, s_.processor_halo, s_.hidden_nodes, s_.processor_edges,
            i + 1 < o_.layers, false, i == 0);
    }
  }

  void decode() {
    const int64_t c = o_.channels;
    embed_edges(kDecoder, s_.decoder_edges);
    block(kDecoder, s_.hidden_nodes, s_.decoder_halo, s_.data_nodes, s_.decoder_edges, false,
          !keep_, true);
    mlp(kDecoder, batch_, s_.data_nodes, c, c, o_.features_out, false);
  }

  const WeatherGnnOptions& o_;
  const GraphSizes& s_;
  int64_t batch_, value_ = 4, wide_ = 4, chunk_ = 0;
  bool keep_ = true;
  std::vector<Stage> stages_[kParts];
};

int64_t mlp_values(int64_t in, int64_t hidden, int64_t out, bool norm) {
  return in * hidden + hidden + hidden * hidden + hidden + hidden * out + out +
         (norm ? 2 * out : 0);
}

int64_t network_values(const WeatherGnnOptions& o) {
  const int64_t c = o.channels, node = 4 + o.node_table, edge = 3 + o.edge_table;
  const int64_t block = mlp_values(3 * c, c, c, true) + mlp_values(2 * c, c, c, true);
  return mlp_values(o.features_in + node, c, c, true) + mlp_values(node, c, c, true) +
         3 * mlp_values(edge, c, c, true) + (o.layers + 2) * block +
         mlp_values(c, c, o.features_out, false);
}

int64_t graph_bytes(const GraphSizes& s) {
  // Source, destination and order by source of each edge, and its attributes; offsets and sources
  // by chunk are about as many as nodes and, for scattered sources, edges.
  const int64_t edges = s.encoder_edges + s.processor_edges + s.decoder_edges;
  const int64_t nodes = s.data_nodes + s.hidden_nodes;
  return edges * (3 * 8 + 3 * 4) + (edges / 2) * 16 + nodes * (2 * 8 + 4 * 4);
}

}  // namespace

GraphSizes sizes_of(const GraphShard& shard) {
  return {.data_nodes = shard.data_rows.size(0),
          .hidden_nodes = shard.hidden_rows.size(0),
          .encoder_edges = shard.encoder.edges.size(),
          .processor_edges = shard.processor.edges.size(),
          .decoder_edges = shard.decoder.edges.size(),
          .encoder_halo = shard.encoder.halo.halo(),
          .processor_halo = shard.processor.halo.halo(),
          .decoder_halo = shard.decoder.halo.halo()};
}

GraphSizes sizes_of(const WeatherGraph& graph) {
  return {.data_nodes = graph.data_nodes(),
          .hidden_nodes = graph.hidden_nodes(),
          .encoder_edges = graph.encoder.size(),
          .processor_edges = graph.processor.size(),
          .decoder_edges = graph.decoder.size()};
}

int64_t chunk_edges_of(const WeatherGnnOptions& network) {
  if (network.chunk_edges > 0) return network.chunk_edges;
  if (network.device_memory_bytes == 0) {
    return std::max(kFewestEdges, (int64_t{1} << 18) / network.channels);
  }
  // A pass has up to sixteen tensors of a chunk's rows: together a sixteenth of the memory.
  constexpr int64_t kShare = 256;
  const auto value = network.compute == c10::ScalarType::Undefined ? at::kFloat : network.compute;
  const int64_t row_bytes = network.channels * static_cast<int64_t>(c10::elementSize(value));
  return std::max(kFewestEdges, network.device_memory_bytes / (kShare * row_bytes));
}

WeatherGnnOptions fit_memory(WeatherGnnOptions network, const GraphSizes& sizes,
                             const PlanOptions& options, int64_t memory_bytes) {
  const auto fits = [&] { return plan_memory(network, sizes, options).peak_bytes <= memory_bytes; };
  network.activations = Activations::keep;
  if (fits()) return network;
  network.activations = Activations::recompute;
  while (!fits() && chunk_edges_of(network) > kFewestEdges) {
    network.chunk_edges = std::max(kFewestEdges, chunk_edges_of(network) / 2);
  }
  return network;
}

MemoryPlan plan_memory(const WeatherGnnOptions& network, const GraphSizes& sizes,
                       const PlanOptions& options) {
  ISOBAR_CHECK(options.batch > 0 && options.rollout > 0,
               "plan_memory: batch and rollout must be positive, got ", options.batch, " and ",
               options.rollout);
  const Network stages(network, sizes, options);
  MemoryPlan plan;
  plan.network_parameters = network_values(network);
  plan.table_parameters =
      network.node_table * (sizes.data_nodes + sizes.hidden_nodes) +
      network.edge_table * (sizes.encoder_edges + sizes.processor_edges + sizes.decoder_edges);
  const int64_t parameters = plan.network_parameters + plan.table_parameters;
  plan.weight_bytes = parameters * options.parameter_bytes * (2 + options.optimizer_values);
  plan.graph_bytes = graph_bytes(sizes);

  LiveBytes live;
  live.add(plan.weight_bytes + plan.graph_bytes);
  double products = 0;
  int64_t* const parts[] = {&plan.encoder_bytes, &plan.processor_bytes, &plan.decoder_bytes};
  for (int64_t step = 0; step < options.rollout; ++step) {
    live.add(stages.input_bytes());
    for (const Part part : {kEncoder, kProcessor, kDecoder}) {
      for (const Stage& stage : stages.stages(part)) {
        live.touch(stage.saved + stage.forward);
        live.add(stage.saved);
        *parts[part] += stage.saved;
        products += stage.products;
      }
    }
    // The forecast, its error and the error's square.
    live.add(3 * stages.output_bytes(options.parameter_bytes));
  }
  // Autograd frees what a stage has saved once it has gone back through it; `waiting` are the
  // gradients that it made for the stages before.
  for (int64_t step = 0; step < options.rollout; ++step) {
    int64_t waiting = stages.output_bytes(options.parameter_bytes);
    for (const Part part : {kDecoder, kProcessor, kEncoder}) {
      const auto& all = stages.stages(part);
      for (auto stage = all.rbegin(); stage != all.rend(); ++stage) {
        live.touch(waiting + stage->backward);
        live.drop(stage->saved);
        waiting = stage->gradients;
      }
    }
  }
  plan.peak_bytes = live.peak();
  plan.forward_flops = 2 * products;
  plan.step_flops = plan.forward_flops * (network.activations == Activations::keep ? 3 : 4);
  return plan;
}

}  // namespace isobar
