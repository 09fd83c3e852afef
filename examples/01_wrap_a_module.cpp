// SPDX-License-Identifier: Apache-2.0
// Wraps a LibTorch module, trains it on every rank of a job, and looks at what the reducer did.
//
//   build/release/bin/01_wrap_a_module                 one rank
//   mpirun -n 2 build/release/bin/01_wrap_a_module     two
//
// The last line is "learnt the line on N ranks".
#include <isobar/comm/make_communicator.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/launch/environment.hpp>
#include <torch/nn/module.h>
#include <torch/optim/sgd.h>

#include <cstdio>
#include <cstdlib>

// y = slope · x + offset
struct Line : torch::nn::Module {
  Line() {
    slope = register_parameter("slope", at::zeros({1}));
    offset = register_parameter("offset", at::zeros({1}));
  }
  at::Tensor forward(const at::Tensor& x) { return slope * x + offset; }
  at::Tensor slope, offset;
};

int main() try {
  auto comm = isobar::make_communicator();
  Line line;
  // Small buckets, so that this small model has more than one.
  isobar::DataParallel parallel(line, *comm, {.reducer = {.caps = {.cap_bytes = 4}}});
  torch::optim::SGD optimizer(line.parameters(), 0.1);

  for (int step = 0; step < 200; ++step) {
    // Each rank sees other points of the same line.
    const auto x = at::linspace(-1, 1, 8) + 0.1 * comm->rank();
    const auto loss = (line.forward(x) - (3 * x - 2)).square().mean();
    parallel.zero_grad();
    {
      // Two backward passes make one update: the first only accumulates.
      auto accumulate = parallel.accumulate();
      (loss / 2).backward({}, /*retain_graph=*/true);
    }
    (loss / 2).backward();
    parallel.finish();
    optimizer.step();
  }

  const auto& counters = parallel.reducer().counters();
  if (comm->rank() == 0) {
    std::printf("%zu buckets, %ld collectives, %ld of them started during backward passes\n",
                parallel.reducer().plan().size(), static_cast<long>(counters.collectives),
                static_cast<long>(counters.launched_in_backward));
  }
  const bool learnt =
      (line.slope - 3).abs().item<double>() < 1e-3 && (line.offset + 2).abs().item<double>() < 1e-3;
  if (comm->rank() == 0 && learnt) std::printf("learnt the line on %d ranks\n", comm->size());
  return learnt ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", isobar::error_line(error).c_str());
  std::_Exit(1);  // without MPI_Finalize, which would wait for ranks that wait for this one
}
