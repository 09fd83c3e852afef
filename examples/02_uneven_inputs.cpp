// SPDX-License-Identifier: Apache-2.0
// Trains one epoch on ranks that have different numbers of samples, each counted once.
//
//   build/release/bin/02_uneven_inputs                 one rank
//   mpirun -n 3 build/release/bin/02_uneven_inputs     three: with 4, 9 and 14 samples
//
// The last line is "N ranks stopped after K steps; every sample counted once".
#include <isobar/comm/make_communicator.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/ddp/input_agreement.hpp>
#include <isobar/launch/environment.hpp>
#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

constexpr int64_t kBatch = 4;

int64_t samples_of(int rank) { return 4 + 5 * rank; }

struct Slope : torch::nn::Module {
  Slope() { slope = register_parameter("slope", at::zeros({1}, at::kDouble)); }
  at::Tensor slope;
};

int main() try {
  auto comm = isobar::make_communicator();
  Slope module;
  isobar::DataParallel parallel(module, *comm);
  isobar::InputAgreement inputs(*comm);

  const int64_t mine = samples_of(comm->rank());
  const auto left = [&](int64_t from) { return std::clamp<int64_t>(mine - from, 0, kBatch); };
  int64_t steps = 0, total = 0;
  double gradients = 0;

  inputs.start(left(0));
  while (true) {
    const auto step = inputs.finish();
    if (!step.any()) break;  // for every rank at once
    // A rank that has run out repeats its first samples, with weight 0.
    const int64_t from = left(steps * kBatch) > 0 ? steps * kBatch : 0;
    const auto batch = at::ones({std::max<int64_t>(left(from), 1)}, at::kDouble);
    const auto loss = step.weight * (module.slope * batch).mean();
    ++steps;
    inputs.start(left(steps * kBatch));  // on its way during the backward pass

    parallel.zero_grad();
    loss.backward();
    parallel.finish();
    // Each sample's gradient is 1, so their mean over all ranks is too.
    gradients += module.slope.grad().item<double>() * static_cast<double>(step.total_samples);
    total += step.total_samples;
  }

  int64_t expected = 0;
  for (int rank = 0; rank < comm->size(); ++rank) expected += samples_of(rank);
  const bool once = total == expected && std::abs(gradients - expected) < 1e-9;
  if (comm->rank() == 0 && once) {
    std::printf("%d ranks stopped after %ld steps; every sample counted once\n", comm->size(),
                static_cast<long>(steps));
  }
  return once ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", isobar::error_line(error).c_str());
  std::_Exit(1);  // without MPI_Finalize, which would wait for ranks that wait for this one
}
