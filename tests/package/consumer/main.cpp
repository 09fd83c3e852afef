// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/make_communicator.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/launch/environment.hpp>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <cstdio>
#include <cstdlib>

int main() try {
  auto comm = isobar::make_communicator();  // the ranks of mpirun or srun; one without them
  torch::manual_seed(comm->rank());         // each rank sees other samples
  torch::nn::Linear module(8, 1);
  torch::optim::SGD optimizer(module->parameters(), 0.1);
  isobar::DataParallel ddp(*module, *comm, {.reducer = {.caps = {.cap_bytes = 1 << 20}}});
  for (int step = 1; step <= 100; ++step) {
    auto x = torch::randn({16, 8});
    auto loss = (module->forward(x) - x.sum(1, true)).square().mean();
    ddp.zero_grad();
    loss.backward();
    ddp.finish();
    optimizer.step();
    if (comm->rank() == 0 && step % 20 == 0) {
      std::printf("step %d of %d ranks: loss %.1e\n", step, comm->size(), loss.item<double>());
    }
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", isobar::error_line(error).c_str());
  std::_Exit(1);  // without MPI_Finalize, which would wait for ranks that wait for this one
}
