// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory_sums.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "comm/shared_memory/segment.hpp"
#include "comm/threads/exchange.hpp"
#include "comm/values.hpp"

namespace isobar::test {
namespace {

/// Values whose sum depends on the order in which it is taken.
at::Tensor numbered(at::ScalarType type, int rank, int64_t count) {
  const auto wave = at::sin(at::arange(0, count, at::kFloat) * (1 + rank) + rank);
  return (wave * (rank == 1 ? 1000 : 30)).to(type);
}

/// Bytes at which something changes: few enough for everyone to combine, cache lines, sections of a
/// piece, a piece, two.
std::vector<int64_t> turning_points(int size) {
  const auto slot = SharedSegment::anonymous(size)->slot_bytes();
  return {64, int64_t{128} * 1024 / size, slot / size, slot / size / 64 * 64 * size, 2 * slot};
}

std::vector<int64_t> counts_around(int64_t bytes, at::ScalarType type) {
  const auto count = bytes / static_cast<int64_t>(c10::elementSize(type));
  return {count - 1, count, count + 1};
}

/// The part of rank `rank` in a reduction.
Operation part_of(OperationKind kind, at::ScalarType type, int rank, int size, int64_t count,
                  ReduceOp op) {
  Operation part;
  part.kind = kind;
  part.reduce = op;
  part.output = numbered(type, rank, count);
  if (kind == OperationKind::reduce_scatter) part.input = numbered(type, rank, count * size);
  return part;
}

/// Compares with what the threads backend makes of the same parts.
void check(Communicator& comm, at::ScalarType type, int64_t count, ReduceOp op) {
  for (const auto kind : {OperationKind::allreduce, OperationKind::reduce_scatter}) {
    std::vector<Operation> parts;
    for (int r = 0; r < comm.size(); ++r) {
      parts.push_back(part_of(kind, type, r, comm.size(), count, op));
    }
    const auto own = part_of(kind, type, comm.rank(), comm.size(), count, op);
    auto work = kind == OperationKind::allreduce ? comm.allreduce(own.output, op)
                                                 : comm.reduce_scatter(own.output, own.input, op);
    exchange(parts);
    work.wait();
    ASSERT_TRUE(at::equal(own.output, parts[comm.rank()].output))
        << "rank " << comm.rank() << ": " << parts[comm.rank()].signature();
  }
}

}  // namespace

void expect_bits_of_threads(Communicator& comm) {
  const auto points = turning_points(comm.size());
  for (const auto bytes : points) {
    for (const auto count : counts_around(bytes, at::kFloat)) {
      check(comm, at::kFloat, count, ReduceOp::sum);
    }
  }
  for (const auto type : {at::kBFloat16, at::kHalf, at::kDouble, at::kInt, at::kByte}) {
    check(comm, type, 7, ReduceOp::sum);
    check(comm, type, counts_around(points.back(), type).back(), ReduceOp::sum);
  }
  for (const auto op : {ReduceOp::minimum, ReduceOp::maximum}) {
    check(comm, at::kBFloat16, 50'003, op);
  }
}

void expect_large_moves(Communicator& comm) {
  const int size = comm.size();
  for (const int64_t count : {32'767, 32'768, 32'769, 100'001}) {
    auto gathered = at::empty({size, count}, at::kInt);
    comm.all_gather(gathered, numbered(at::kInt, comm.rank(), count)).wait();
    auto root = numbered(at::kInt, comm.rank(), count);
    comm.broadcast(root, size - 1).wait();
    EXPECT_TRUE(at::equal(root, numbered(at::kInt, size - 1, count)));

    std::vector<int64_t> rows;
    for (int r = 0; r < size; ++r) rows.push_back(r == size - 1 ? 1 : count + r);
    // Every rank sends rank r the same number of rows, so it gets its own number from each.
    const std::vector<int64_t> wanted(size, rows[comm.rank()]);
    auto sent =
        numbered(at::kInt, comm.rank(), std::accumulate(rows.begin(), rows.end(), int64_t{0}));
    auto received = at::empty({rows[comm.rank()] * size}, at::kInt);
    comm.all_to_all(received, sent, wanted, rows).wait();
    const auto before = std::accumulate(rows.begin(), rows.begin() + comm.rank(), int64_t{0});
    for (int r = 0; r < size; ++r) {
      EXPECT_TRUE(at::equal(gathered[r], numbered(at::kInt, r, count)));
      const auto all = numbered(at::kInt, r, before + rows[comm.rank()]);
      EXPECT_TRUE(at::equal(received.view({size, -1})[r], all.slice(0, before)));
    }
  }
}

}  // namespace isobar::test
