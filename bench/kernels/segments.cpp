// SPDX-License-Identifier: Apache-2.0
// Sums of a message pass: edges are rows, sorted by destination, four a graph node on average.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "bench/kernels/kernels.hpp"
#include "model/mlp_kernels.hpp"

namespace isobar::bench {
namespace {

struct Edges {
  int64_t count, nodes;
  at::Tensor rows;                   ///< [count, kWidth]
  at::Tensor offsets;                ///< [nodes + 1]
  at::Tensor order;                  ///< [count], each edge once
  at::Tensor node;                   ///< [nodes], each graph node once
  std::vector<int64_t> destination;  ///< of each edge
};

/// Graph nodes of 0 to 8 edges.
std::shared_ptr<Edges> make_edges(c10::ScalarType type, Place place) {
  auto e = std::make_shared<Edges>();
  e->count = rows_of(place);
  e->nodes = e->count / 4;
  e->rows = values({e->count, kWidth}, type, 1);
  e->destination = plain_indices(indices(e->count, e->nodes, 2));
  std::sort(e->destination.begin(), e->destination.end());
  e->offsets = zeros({e->nodes + 1}, at::kLong);
  auto* offsets = e->offsets.mutable_data_ptr<int64_t>();
  for (const int64_t node : e->destination) ++offsets[node + 1];
  std::partial_sum(offsets, offsets + e->nodes + 1, offsets);
  // Steps that have no factor with a power of two visit every row and every graph node.
  e->order = zeros({e->count}, at::kLong);
  e->node = zeros({e->nodes}, at::kLong);
  for (int64_t i = 0; i < e->count; ++i) {
    e->order.mutable_data_ptr<int64_t>()[i] = i * 37 % e->count;
  }
  for (int64_t i = 0; i < e->nodes; ++i) {
    e->node.mutable_data_ptr<int64_t>()[i] = i * 37 % e->nodes;
  }
  return e;
}

/// What a sum reads of the rows, and writes or changes.
Kernel kernel_of(const Edges& e, double node_bytes) {
  const auto row_values = static_cast<double>(e.count * kWidth);
  return {.bytes = row_values * static_cast<double>(e.rows.element_size()) +
                   static_cast<double>(e.nodes * kWidth) * node_bytes,
          .operations = row_values,
          .call = {},
          .error = {},
          .tolerance = tolerance_of(e.rows.scalar_type())};
}

Kernel sum_segments(c10::ScalarType type, Place place) {
  const auto e = make_edges(type, place);
  auto kernel = kernel_of(*e, static_cast<double>(e->rows.element_size()));
  const auto sums = zeros({e->nodes, kWidth}, type);
  kernel.call = [=] {
    at::Tensor to = sums;
    isobar::sum_segments(e->rows, e->offsets, to);
  };
  kernel.error = [=] {
    const auto rows = plain(e->rows);
    std::vector<double> wanted(e->nodes * kWidth);
    for (int64_t i = 0; i < e->count; ++i) {
      for (int64_t c = 0; c < kWidth; ++c) {
        wanted[e->destination[i] * kWidth + c] += rows[i * kWidth + c];
      }
    }
    return deviation(sums, wanted);
  };
  return kernel;
}

/// Sums are float32, which every call adds to.
Kernel add_to_segments(c10::ScalarType type, Place place) {
  const auto e = make_edges(type, place);
  auto kernel = kernel_of(*e, 8);
  kernel.bytes += 8.0 * static_cast<double>(e->count);
  kernel.tolerance = 1e-5;
  const auto sums = zeros({e->nodes, kWidth}, at::kFloat);
  kernel.call = [=] {
    at::Tensor to = sums;
    isobar::add_segments(e->rows, e->order, 0, e->offsets, e->node, to);
  };
  kernel.error = [=] {
    const auto rows = plain(e->rows);
    const auto order = plain_indices(e->order), node = plain_indices(e->node);
    std::vector<double> wanted(e->nodes * kWidth);
    for (int64_t k = 0; k < e->count; ++k) {
      for (int64_t c = 0; c < kWidth; ++c) {
        wanted[node[e->destination[k]] * kWidth + c] += rows[order[k] * kWidth + c];
      }
    }
    return deviation(sums, wanted);
  };
  return kernel;
}

Kernel add_gathered(c10::ScalarType type, Place place) {
  const int64_t count = rows_of(place), nodes = count / 4;
  const auto rows = values({count, kWidth}, type, 1), table = values({nodes, kWidth}, type, 2);
  const auto row = indices(count, nodes, 3);
  const auto out = zeros({count, kWidth}, type);
  const auto row_values = static_cast<double>(count * kWidth);
  const auto call = [=] {
    at::Tensor to = out;
    isobar::add_gathered(rows, table, row, 0, to);
  };
  const auto error = [=] {
    const auto node = plain(table);
    const auto from = plain_indices(row);
    auto wanted = plain(rows);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < kWidth; ++c) wanted[i * kWidth + c] += node[from[i] * kWidth + c];
    }
    return deviation(out, wanted);
  };
  return {.bytes = 2.25 * row_values * static_cast<double>(rows.element_size()) +
                   8.0 * static_cast<double>(count),
          .operations = row_values,
          .call = call,
          .error = error,
          .tolerance = tolerance_of(type)};
}

}  // namespace

void add_segments(Kernels& kernels) {
  kernels.add_typed("sum_segments", sum_segments);
  kernels.add_typed("add_segments", add_to_segments);
  kernels.add_typed("add_gathered", add_gathered);
}

}  // namespace isobar::bench
