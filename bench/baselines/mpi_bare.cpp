// SPDX-License-Identifier: Apache-2.0
// The MPI library's collectives as they come, with isobar's measurement around them.
//   mpirun -n 4 mpi_bare --op allreduce --bytes 1MiB,16MiB [--nonblocking]
#include <CLI/CLI.hpp>
#include <mpi.h>

#include "bench/baselines/launch.hpp"
#include "bench/baselines/mpi_subject.hpp"

int main(int argc, char** argv) {
  using namespace isobar::bench;
  MpiSubjectOptions options;
  MPI_Init(&argc, &argv);
  const int code = run_peer(
      argc, argv, "The MPI library's own collectives",
      [&](CLI::App& app) {
        app.add_flag("--nonblocking", options.nonblocking, "MPI_Iallreduce and MPI_Wait, ...");
      },
      [&](const CollectiveArguments& arguments) {
        options.op = parse_collective(arguments.op);
        options.type = parse_type(arguments.type);
        return make_mpi_subject(options);
      });
  MPI_Finalize();
  return code;
}
