// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/measure_step.hpp>
#include <isobar/bench/step_arguments.hpp>
#include <isobar/bench/step_sync.hpp>
#include <isobar/comm/process_grid.hpp>
#include <isobar/compress/make_compressor.hpp>
#include <isobar/train/optimizer.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace isobar::bench {

/// What of a training step only isobar has, as words of the command line.
struct ParallelArguments {
  int model_ranks = 1;                    ///< on a grid, all of whose parameters are replicated
  std::string levels = "flat";            ///< or "two"
  std::string launch = "first_gradient";  ///< or "counted", "at_finish"
  std::string last_bucket_cap = "none";
  std::string update = "separate";  ///< or "fused"
  std::string buffers = "none";     ///< or "broadcast", "compare"
  CompressionOptions compress{.low_rank = {.start_step = 0}};
};

/// What "none", or a size such as "1MiB", is as the most that the last bucket holds. Throws
/// UsageError.
int64_t parse_last_cap(const std::string& text);

/// What the row says of them.
nlohmann::json parallel_fields(const ParallelArguments& arguments);

/// The optimizer that `isobar bench step` takes, fused or not.
OptimizerOptions optimizer_options(const StepArguments& step, FusedUpdate fused);

/// Gradients through DataParallel, as users do it, over the whole world or over a grid;
/// with a fused update inside finish(). World and grid (which may be null) must outlive
/// it. Throws UsageError for a word that is none. Collective; blocks.
std::unique_ptr<StepSync> make_parallel_sync(torch::nn::Module& module, Communicator& world,
                                             const ProcessGrid* grid, const StepArguments& step,
                                             const ParallelArguments& arguments);

/// The step that the arguments describe: without synchronisation, or with make_parallel_sync(), and
/// with the optimizer of experiments. `comm`, and `grid`, which may be null, must outlive it.
StepCase make_step_case(const StepArguments& common, const ParallelArguments& parallel,
                        MakeWorkload make_workload, Communicator& comm, const ProcessGrid* grid);

}  // namespace isobar::bench
