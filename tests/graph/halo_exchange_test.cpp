// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/graph/halo_exchange.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "graph/meshes.hpp"

namespace isobar::halo_exchange_test {
namespace {

/// [B, N, C] of small whole numbers, other ones everywhere.
at::Tensor global_rows(int64_t batch, int64_t nodes) {
  return at::arange(batch * nodes * 3, at::kDouble).remainder(1009).view({batch, nodes, 3});
}

/// Own rows of `global`, and a halo of `fill`.
at::Tensor with_halo(const at::Tensor& global, const at::Tensor& own, int64_t halo, double fill) {
  return at::cat(
      {global.index_select(1, own), at::full({global.size(0), halo, 3}, fill, at::kDouble)}, 1);
}

TEST(HaloExchange, BringsTheRowsThatEdgesRead) {
  const auto graph = test::global_mesh();
  for (const int ranks : {1, 2, 3, 4}) {
    const auto partition = make_partition(graph, ranks, PartitionMethod::bisection);
    run_ranks(ranks, [&](Communicator& comm) {
      const auto shard = make_shard(graph, partition, comm.rank());
      for (const int64_t batch : {1, 2}) {
        const auto global = global_rows(batch, graph.data_nodes());
        HaloExchange exchange(shard.encoder.halo, comm);
        const auto rows = with_halo(global, shard.data_rows, exchange.plan().halo(), -1);
        exchange.start(rows).wait();

        const auto read = rows.index_select(1, shard.encoder.edges.source);
        const auto source = graph.encoder.source.index_select(0, shard.encoder.rows);
        EXPECT_TRUE(at::equal(read, global.index_select(1, source)));
      }
    });
  }
}

// <Hx, y> = <x, H'y>: whole numbers, so to the bit.
TEST(HaloExchange, IsAdjointToItsReturn) {
  const auto graph = test::global_mesh();
  for (const auto method : {PartitionMethod::bands, PartitionMethod::bisection}) {
    const auto partition = make_partition(graph, 3, method);
    run_ranks(3, [&](Communicator& comm) {
      const auto shard = make_shard(graph, partition, comm.rank());
      HaloExchange exchange(shard.processor.halo, comm);
      const int64_t own = exchange.plan().owned, halo = exchange.plan().halo();
      const auto x = with_halo(global_rows(2, graph.hidden_nodes()), shard.hidden_rows, halo, 0);
      const auto y = global_rows(2, own + halo).add(comm.rank());
      auto forward = x.clone();
      exchange.start(forward).wait();
      auto backward = y.clone();
      exchange.start_adjoint(backward).wait();
      const auto products = at::stack(
          {(forward * y).sum(), (x.narrow(1, 0, own) * backward.narrow(1, 0, own)).sum()});
      comm.allreduce(products).wait();

      EXPECT_EQ(products[0].item<double>(), products[1].item<double>());
      EXPECT_FALSE(at::equal(backward.narrow(1, 0, own), y.narrow(1, 0, own)));
    });
  }
}

TEST(HaloExchange, CountsTheRowsThatItReceives) {
  const auto graph = test::global_mesh();
  const auto partition = make_partition(graph, 2);
  run_ranks(2, [&](Communicator& comm) {
    const auto shard = make_shard(graph, partition, comm.rank());
    HaloExchange exchange(shard.encoder.halo, comm);
    const auto rows =
        with_halo(global_rows(1, graph.data_nodes()), shard.data_rows, exchange.plan().halo(), 0);
    exchange.start(rows).wait();
    EXPECT_EQ(exchange.received_rows(), shard.encoder.halo.halo());
    EXPECT_GT(exchange.received_rows(), 0);
    exchange.start_adjoint(rows).wait();
    EXPECT_EQ(exchange.received_rows(),
              shard.encoder.halo.halo() + shard.encoder.halo.send_rows.size(0));
  });
}

TEST(HaloExchange, RejectsWhatDoesNotFit) {
  const auto graph = test::global_mesh();
  run_ranks(2, [&](Communicator& comm) {
    const auto shard = make_shard(graph, make_partition(graph, 2), comm.rank());
    EXPECT_THROW(HaloExchange(make_shard(graph).encoder.halo, comm), UsageError);
    HaloExchange exchange(shard.encoder.halo, comm);
    EXPECT_THROW(exchange.start(at::zeros({1, 3, 2})), UsageError);
    EXPECT_THROW(exchange.start_adjoint(at::zeros({1, 3, 2})), UsageError);
  });
}

}  // namespace
}  // namespace isobar::halo_exchange_test
