// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/partition.hpp>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <string>

#include "graph/sphere.hpp"

namespace isobar {
namespace {

/// What ranks that compute it on different machines must agree on is compared in steps of 6 mm on
/// the Earth, not to the last bit of a cosine.
constexpr double kStep = 1e-9;

/// The nodes that the ranks before `rank` own, where the first ranks own one more.
int64_t nodes_before(int64_t nodes, int rank, int ranks) {
  return nodes / ranks * rank + std::min<int64_t>(rank, nodes % ranks);
}

at::Tensor bands(int64_t nodes, int ranks) {
  at::Tensor owner = at::empty({nodes}, at::kLong);
  auto* out = owner.mutable_data_ptr<int64_t>();
  for (int rank = 0; rank < ranks; ++rank) {
    std::fill(out + nodes_before(nodes, rank, ranks), out + nodes_before(nodes, rank + 1, ranks),
              rank);
  }
  return owner;
}

/// A set of nodes that is being cut up.
struct NodeSet {
  explicit NodeSet(std::vector<UnitVector> positions)
      : points(std::move(positions)),
        order(points.size()),
        owner(at::empty({static_cast<int64_t>(points.size())}, at::kLong)) {
    std::iota(order.begin(), order.end(), 0);
  }

  std::vector<UnitVector> points;
  std::vector<int64_t> order;  // by part
  at::Tensor owner;
};

/// Cuts both sets by the same planes' direction until a part is one rank's.
class Bisection {
 public:
  Bisection(NodeSet& data, NodeSet& hidden, int ranks) : sets_{&data, &hidden}, ranks_(ranks) {}

  /// Shares out what the ranks first to last - 1 own.
  void run(int first, int last) const {
    if (last - first == 1) {
      for (NodeSet* set : sets_) {
        auto* owner = set->owner.mutable_data_ptr<int64_t>();
        for (const int64_t node : part(*set, first, last)) owner[node] = first;
      }
      return;
    }
    const size_t axis = longest_axis(first, last);
    const int middle = first + (last - first + 1) / 2;
    for (NodeSet* set : sets_) cut(*set, axis, first, middle, last);
    run(first, middle);
    run(middle, last);
  }

 private:
  std::span<int64_t> part(NodeSet& set, int first, int last) const {
    const auto nodes = static_cast<int64_t>(set.order.size());
    const int64_t begin = nodes_before(nodes, first, ranks_);
    return std::span(set.order).subspan(begin, nodes_before(nodes, last, ranks_) - begin);
  }

  /// The axis along which the part reaches farthest; of equals, the one through the poles, so that
  /// the first cut of a globe is its equator.
  size_t longest_axis(int first, int last) const {
    size_t longest = 2;
    double extent = 0;
    for (const size_t axis : {2, 0, 1}) {
      double low = std::numeric_limits<double>::max(), high = std::numeric_limits<double>::lowest();
      for (NodeSet* set : sets_) {
        for (const int64_t node : part(*set, first, last)) {
          low = std::min(low, set->points[node][axis]);
          high = std::max(high, set->points[node][axis]);
        }
      }
      // Grids reach almost, not quite, as far along one axis as along another.
      constexpr double alike = 1.01;
      if (high - low > extent * alike) longest = axis, extent = high - low;
    }
    return longest;
  }

  void cut(NodeSet& set, size_t axis, int first, int middle, int last) const {
    const auto nodes = part(set, first, last);
    const auto key = [&](int64_t node) {
      return std::pair(-std::llround(set.points[node][axis] / kStep), node);
    };
    std::nth_element(nodes.begin(), nodes.begin() + std::ssize(part(set, first, middle)),
                     nodes.end(), [&](int64_t a, int64_t b) { return key(a) < key(b); });
  }

  std::array<NodeSet*, 2> sets_;
  int ranks_;
};

}  // namespace

PartitionMethod parse_partition_method(std::string_view name) {
  if (name == "bands") return PartitionMethod::bands;
  if (name == "bisection") return PartitionMethod::bisection;
  throw UsageError("partition method: wanted bands or bisection, got '" + std::string(name) + "'");
}

Partition make_partition(const WeatherGraph& graph, int ranks, PartitionMethod method) {
  ISOBAR_CHECK(ranks >= 1 && ranks <= std::min(graph.data_nodes(), graph.hidden_nodes()),
               "make_partition: wanted 1 to ", std::min(graph.data_nodes(), graph.hidden_nodes()),
               " ranks, a data node (of ", graph.data_nodes(), ") and a hidden node (of ",
               graph.hidden_nodes(), ") for each, got ", ranks);
  if (method == PartitionMethod::bands) {
    return {bands(graph.data_nodes(), ranks), bands(graph.hidden_nodes(), ranks), ranks};
  }
  NodeSet data(unit_vectors(graph.data.latitude, graph.data.longitude));
  NodeSet hidden(unit_vectors(graph.hidden_latitude, graph.hidden_longitude));
  Bisection(data, hidden, ranks).run(0, ranks);
  return {data.owner, hidden.owner, ranks};
}

}  // namespace isobar
