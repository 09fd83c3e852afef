// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace isobar {

/// What a computation in one precision gave.
struct ParityReference {
  at::Tensor output;  ///< [N, P]
  double loss = 0;
  std::map<std::string, at::Tensor> gradients;  ///< by the names of WeatherGnn
  std::vector<double> adamw_losses;             ///< before each update, and after the last
};

/// A network with its graph, weights, one sample and what another program makes of it, from an HDF5
/// file; docs/model.md describes the layout.
struct ParityCase {
  WeatherGraph graph;
  at::Tensor data_attributes;    ///< [N, 4] float32
  at::Tensor hidden_attributes;  ///< [V, 4] float32
  at::Tensor area;               ///< [N], sums to 1
  at::Tensor input;              ///< [1, N, features], the input steps side by side
  at::Tensor latest;             ///< [N, prognostic]: what the output is added to
  at::Tensor target;             ///< [N, P], prognostic variables first
  int64_t channels = 0;
  int64_t layers = 0;
  int64_t node_table = 0;
  int64_t edge_table = 0;
  std::map<std::string, at::Tensor> weights;  ///< by the names of WeatherGnn
  ParityReference float32;
  ParityReference float64;
};

/// Throws DataError naming file and data set.
ParityCase read_parity_case(const std::string& path);

/// Writes a graph as such a file has it, without the rest.
void write_parity_graph(const std::string& path, const WeatherGraph& graph);

/// The name in such a file, which is anemoi-models', of a parameter of WeatherGnn.
std::string anemoi_name(const std::string& parameter);

}  // namespace isobar
