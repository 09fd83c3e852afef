// SPDX-License-Identifier: Apache-2.0
// Gloo through LibTorch's c10d as it comes, with isobar's measurement around it.
//   mpirun -n 4 gloo_bare --address 10.0.0.1:29500 --op allreduce --bytes 1MiB,16MiB
// No launcher is needed: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT do as well.
#include <isobar/core/error.hpp>
#include <CLI/CLI.hpp>

#include <cstdlib>

#include "bench/baselines/gloo_subject.hpp"
#include "bench/baselines/launch.hpp"

namespace {

using isobar::bench::GlooSubjectOptions;

std::string from_environment() {
  const char* address = std::getenv("MASTER_ADDR");
  const char* port = std::getenv("MASTER_PORT");
  return std::string(address ? address : "127.0.0.1") + (port ? std::string(":") + port : "");
}

void set_address(GlooSubjectOptions& options, const std::string& text) {
  const auto colon = text.find(':');
  options.address = text.substr(0, colon);
  if (colon != std::string::npos) options.port = std::atoi(text.c_str() + colon + 1);
  ISOBAR_CHECK(options.port > 0 && options.port < 65536, "--address: '", text,
               "' has no port, wanted HOST or HOST:PORT");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace isobar::bench;
  std::string address = from_environment();
  return run_peer(
      argc, argv, "Gloo's collectives through LibTorch",
      [&](CLI::App& app) {
        app.add_option(
            "--address", address,
            "HOST[:PORT] at which rank 0 is found; MASTER_ADDR and MASTER_PORT otherwise");
      },
      [&](const Arguments& arguments) {
        const auto place = read_launch_place();
        GlooSubjectOptions options{
            .op = parse_collective(arguments.op), .rank = place.rank, .size = place.size};
        set_address(options, address);
        return make_gloo_subject(options);
      });
}
