// SPDX-License-Identifier: Apache-2.0
// README's program, as short as it goes.
#include <isobar/comm/make_communicator.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/launch/environment.hpp>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>
#include <cstdlib>
#include <iostream>

int main() try {
  auto comm = isobar::make_communicator();  // the ranks of mpirun or srun; alone, one
  torch::nn::Linear model(8, 1);
  isobar::DataParallel parallel(*model, *comm);  // all ranks start with rank 0's weights
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  torch::manual_seed(comm->rank());  // each rank draws samples of its own
  for (int step = 1; step <= 100; ++step) {
    auto x = torch::randn({16, 8});
    auto loss = (model->forward(x) - x.sum(1, true)).square().mean();
    parallel.zero_grad();
    loss.backward();    // full buckets of gradients leave meanwhile
    parallel.finish();  // .grad is the mean over all ranks
    optimizer.step();
    if (comm->rank() == 0 && step % 50 == 0)
      std::cout << step << ": " << loss.item<float>() << "\n";
  }
} catch (const std::exception& error) {
  std::cerr << "error: " << isobar::error_line(error) << "\n";
  std::_Exit(1);  // at once: the launcher ends ranks that wait for this one
}
