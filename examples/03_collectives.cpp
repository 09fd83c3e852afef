// SPDX-License-Identifier: Apache-2.0
// Calls every collective once.
//
//   build/release/bin/03_collectives                 one rank
//   mpirun -n 2 build/release/bin/03_collectives     two
//
// The last line is "N ranks agree".
#include <isobar/comm/make_communicator.hpp>
#include <isobar/launch/environment.hpp>
#include <ATen/ATen.h>

#include <cstdio>
#include <cstdlib>

int exchange() {
  const auto comm = isobar::make_communicator();
  const int rank = comm->rank(), size = comm->size();

  auto sum = at::full({3}, rank + 1.0);
  comm->allreduce(sum).wait();  // in place; ReduceOp::maximum and others as second argument

  const auto mine = at::full({2}, rank);
  auto all = at::empty({size, 2}, mine.options());
  comm->all_gather(all, mine).wait();  // rows in the order of ranks

  auto share = at::empty({1});
  comm->reduce_scatter(share, at::ones({size})).wait();  // rank r gets the sum of the r-th parts

  auto word = at::full({1}, rank == 0 ? 42 : 0);
  comm->broadcast(word, /*root=*/0).wait();

  const std::vector<int64_t> one_row(size, 1);  // of each rank, to each rank; they may differ
  auto columns = at::empty({size, 2});
  const auto rows = at::full({size, 2}, static_cast<double>(rank), columns.options());
  comm->all_to_all(columns, rows, one_row, one_row).wait();

  auto left = at::full({1}, rank);
  if (size > 1) {  // both start before either waits
    auto received = comm->receive(left, (rank + size - 1) % size);
    comm->send(at::full({1}, rank), (rank + 1) % size).wait();
    received.wait();
  }

  const auto pair = comm->split(/*color=*/rank / 2, /*key=*/rank);  // groups of two
  comm->barrier().wait();

  const bool agree = sum[0].item<double>() == size * (size + 1) / 2.0 &&
                     all[size - 1][0].item<int64_t>() == size - 1 && share.item<double>() == size &&
                     word.item<int64_t>() == 42 &&
                     columns[size - 1][1].item<double>() == size - 1 &&
                     left.item<int64_t>() == (rank + size - 1) % size && pair->size() <= 2;
  if (rank == 0 && agree) std::printf("%d ranks agree\n", size);
  return agree ? 0 : 1;
}

int main() try { return exchange(); } catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", isobar::error_line(error).c_str());
  std::_Exit(1);  // without MPI_Finalize, which would wait for ranks that wait for this one
}
