// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/train/optimizer.hpp>
#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>

#include "bench/harness/step_arguments.hpp"
#include "bench/harness/step_sync.hpp"
#include "cli/compression.hpp"

namespace CLI {
class App;
}

namespace isobar {

/// What of a training step only isobar has, as words of the command line.
struct ParallelArguments {
  int model_ranks = 1;  ///< on a grid, all of whose parameters are replicated
  std::string levels = "flat";
  std::string launch = "first_gradient";
  std::string last_bucket_cap = "none";
  std::string update = "separate";
  std::string buffers = "none";
  CompressionOptions compress{.low_rank = {.start_step = 0}};
};

/// Adds the options; `arguments` must outlive the parsing.
void add_parallel_options(CLI::App& app, ParallelArguments& arguments);

/// What the row says of them.
nlohmann::json parallel_fields(const ParallelArguments& arguments);

/// The optimizer that `isobar bench step` takes, fused or not.
OptimizerOptions optimizer_options(const bench::StepArguments& step, FusedUpdate fused);

/// Gradients through DataParallel, as users do it, over the whole world or over a grid;
/// with a fused update inside finish(). World and grid (which may be null) must outlive
/// it. Collective; blocks.
std::unique_ptr<bench::StepSync> make_parallel_sync(torch::nn::Module& module, Communicator& world,
                                                    const ProcessGrid* grid,
                                                    const bench::StepArguments& step,
                                                    const ParallelArguments& arguments);

}  // namespace isobar
