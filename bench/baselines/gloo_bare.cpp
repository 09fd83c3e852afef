// SPDX-License-Identifier: Apache-2.0
// Gloo through LibTorch's c10d as it comes, with isobar's measurement around it.
//   mpirun -n 4 gloo_bare --address 10.0.0.1:29500 --op allreduce --bytes 1MiB,16MiB
// No launcher is needed: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT do as well.
#include <CLI/CLI.hpp>

#include "bench/baselines/gloo_place.hpp"
#include "bench/baselines/launch.hpp"

int main(int argc, char** argv) {
  using namespace isobar::bench;
  std::string address = master_address();
  return run_peer(
      argc, argv, "Gloo's collectives through LibTorch",
      [&](CLI::App& app) {
        app.add_option(
            "--address", address,
            "HOST[:PORT] at which rank 0 is found; MASTER_ADDR and MASTER_PORT otherwise");
      },
      [&](const CollectiveArguments& arguments) {
        auto options = gloo_place(address);
        options.op = parse_collective(arguments.op);
        return make_gloo_subject(options);
      });
}
