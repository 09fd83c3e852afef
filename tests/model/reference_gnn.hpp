// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>
#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace isobar::test {

/// A number and its derivative along one direction: reference gradients without
/// the rounding of finite differences.
struct Dual {
  double value = 0;
  double slope = 0;
};

inline Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
inline Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
inline Dual operator*(Dual a, Dual b) {
  return {a.value * b.value, a.slope * b.value + a.value * b.slope};
}
inline Dual inverse_sqrt(Dual a) {
  const double root = 1 / std::sqrt(a.value);
  return {root, -0.5 * a.slope * root / a.value};
}
/// x/2 (1 + erf(x / sqrt 2))
inline Dual gelu(Dual x) {
  const double cumulative = 0.5 * (1 + std::erf(x.value / std::sqrt(2.0)));
  const double density = std::exp(-0.5 * x.value * x.value) / std::sqrt(2 * M_PI);
  return {x.value * cumulative, x.slope * (cumulative + x.value * density)};
}

using Row = std::vector<Dual>;
using Rows = std::vector<Row>;

inline Row operator+(const Row& a, const Row& b) {
  Row sum(a.size());
  for (size_t i = 0; i < a.size(); ++i) sum[i] = a[i] + b[i];
  return sum;
}

inline Row joined(std::initializer_list<Row> rows) {
  Row all;
  for (const Row& row : rows) all.insert(all.end(), row.begin(), row.end());
  return all;
}

/// The network as it is written down, in plain loops: concatenations, one
/// sample, and the names of WeatherGnn's parameters. Slow and independent.
class ReferenceGnn {
 public:
  ReferenceGnn(const WeatherGraph& graph, int layers) : graph_(graph), layers_(layers) {}

  /// A parameter's values, and the direction in which slopes are taken.
  void set(const std::string& name, const at::Tensor& values, const at::Tensor& slopes) {
    const at::Tensor matrix = values.dim() == 1 ? values.unsqueeze(0) : values;
    parameters_[name] = rows_of(matrix, slopes.view_as(matrix));
  }

  static Rows rows_of(const at::Tensor& values, const at::Tensor& slopes) {
    Rows rows(values.size(0), Row(values.size(1)));
    for (size_t i = 0; i < rows.size(); ++i) {
      for (size_t j = 0; j < rows[i].size(); ++j) {
        rows[i][j] = {values[i][j].item<double>(), slopes[i][j].item<double>()};
      }
    }
    return rows;
  }

  Rows run(const Rows& x) const {
    const Rows data = each("encoder.emb_nodes_src", with(x, "data"));
    Rows hidden = each("encoder.emb_nodes_dst",
                       with(fixed(node_attributes(graph_.hidden_latitude, graph_.hidden_longitude)),
                            "hidden_table"));
    Rows edges = edge_rows("encoder", graph_.encoder);
    hidden =
        message_block("encoder.proc.conv", "encoder.proc", data, hidden, edges, graph_.encoder);
    Rows updated = data;
    for (Row& row : updated) row = row + mlp("encoder.proc.node_mlp", joined({row, row}));

    Rows state =
        each("processor.0.emb_edges", with(fixed(graph_.processor.attributes), "processor_table"));
    Rows nodes = hidden;
    for (int i = 0; i < layers_; ++i) {
      const std::string block = "processor." + std::to_string(i);
      nodes = message_block(block + ".conv", block, nodes, nodes, state, graph_.processor);
    }
    for (size_t i = 0; i < nodes.size(); ++i) nodes[i] = nodes[i] + hidden[i];

    edges = edge_rows("decoder", graph_.decoder);
    updated =
        message_block("decoder.proc.conv", "decoder.proc", nodes, updated, edges, graph_.decoder);
    return each("decoder.node_data_extractor", updated);
  }

 private:
  static Rows fixed(const at::Tensor& values) { return rows_of(values, at::zeros_like(values)); }

  Rows with(Rows rows, const std::string& name) const {
    if (name == "data") {
      const Rows attributes = fixed(node_attributes(graph_.data.latitude, graph_.data.longitude));
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = joined({rows[i], attributes[i]});
      return with(rows, "data_table");
    }
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = joined({rows[i], parameters_.at(name)[i]});
    }
    return rows;
  }

  Rows edge_rows(const std::string& part, const EdgeSet& set) const {
    return each(part + ".emb_edges", with(fixed(set.attributes), part + "_table"));
  }

  /// The new destinations; `edges` become the messages.
  Rows message_block(const std::string& conv, const std::string& block, const Rows& sources,
                     const Rows& destinations, Rows& edges, const EdgeSet& set) const {
    Rows sums(destinations.size(), Row(edges[0].size()));
    for (size_t e = 0; e < edges.size(); ++e) {
      const int64_t i = set.destination[e].item<int64_t>(), j = set.source[e].item<int64_t>();
      edges[e] =
          edges[e] + mlp(conv + ".edge_mlp", joined({destinations[i], sources[j], edges[e]}));
      sums[i] = sums[i] + edges[e];
    }
    Rows updated = destinations;
    for (size_t i = 0; i < updated.size(); ++i) {
      updated[i] = updated[i] + mlp(block + ".node_mlp", joined({destinations[i], sums[i]}));
    }
    return updated;
  }

  Rows each(const std::string& name, Rows rows) const {
    for (Row& row : rows) row = mlp(name, row);
    return rows;
  }

  Row mlp(const std::string& name, Row x) const {
    for (const char* layer : {".mlp.0", ".mlp.2", ".mlp.4"}) {
      if (layer[5] != '0') {
        for (Dual& value : x) value = gelu(value);
      }
      x = linear(name + layer, x);
    }
    return parameters_.contains(name + ".layer_norm.weight") ? layer_norm(name + ".layer_norm", x)
                                                             : x;
  }

  Row linear(const std::string& name, const Row& x) const {
    const Rows& weight = parameters_.at(name + ".weight");
    Row y = parameters_.at(name + ".bias")[0];
    for (size_t i = 0; i < y.size(); ++i) {
      for (size_t j = 0; j < x.size(); ++j) y[i] = y[i] + weight[i][j] * x[j];
    }
    return y;
  }

  Row layer_norm(const std::string& name, Row x) const {
    const Dual share{1.0 / static_cast<double>(x.size()), 0};
    Dual mean, variance;
    for (const Dual& value : x) mean = mean + share * value;
    for (const Dual& value : x) variance = variance + share * (value - mean) * (value - mean);
    const Dual scale = inverse_sqrt(variance + Dual{1e-5, 0});
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = (x[i] - mean) * scale * parameters_.at(name + ".weight")[0][i] +
             parameters_.at(name + ".bias")[0][i];
    }
    return x;
  }

  const WeatherGraph& graph_;
  int layers_;
  std::map<std::string, Rows> parameters_;
};

}  // namespace isobar::test
