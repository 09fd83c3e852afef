// SPDX-License-Identifier: Apache-2.0
// Trains a LibTorch module of one's own on every rank of an MPI job; each rank sees other samples.
#include <isobar/comm/make_communicator.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

int main() {
  auto comm = isobar::make_communicator();
  torch::manual_seed(comm->rank());
  torch::nn::Linear module(8, 1);
  torch::optim::SGD optimizer(module->parameters(), 0.1);
  isobar::DataParallel ddp(*module, *comm, {.bucket_cap_bytes = 1 << 20});
  for (int step = 0; step < 100; ++step) {
    auto x = torch::randn({16, 8});
    auto loss = (module->forward(x) - x.sum(1, true)).square().mean();
    ddp.zero_grad();
    loss.backward();
    ddp.finish();
    optimizer.step();
  }
  auto all = torch::empty({comm->size(), 8});
  comm->all_gather(all, module->weight.detach()).wait();
  bool learned = (all - 1).abs().max().item<float>() < 1e-3;
  return comm->size() == 2 && all.eq(all[0]).all().item<bool>() && learned ? 0 : 1;
}
