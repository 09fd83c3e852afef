// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/ddp/compressor.hpp>
#include <isobar/ddp/step_model.hpp>

#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <vector>

namespace isobar {

/// What a compressor makes of a step's buckets, apart from the wire.
struct CompressionCost {
  /// By bucket; ready_s is 0. Bytes are those of the allreduce that makes a rank send as much.
  std::vector<StagedBucket> buckets;
  Traffic traffic;  ///< of a step and rank
};

/// Runs `compressor`, or with null what a reducer does without one, over gradients of noise
/// in buckets of these shapes, as if `ranks` ranks summed them; nothing is sent. Times are
/// medians of `steps` steps, an even number, each stage and bucket its own. Where ranks
/// share a processor's memory all of them should do it at once. `compressor` is used up.
/// Takes the gradients' memory three times. Blocks.
CompressionCost measure_compression(const std::vector<NamedParameter>& parameters,
                                    const BucketPlan& plan, Compressor* compressor, int ranks,
                                    int steps = 6);

/// The same with every time the largest of the ranks'. Collective; blocks.
CompressionCost slowest(CompressionCost cost, Communicator& group);

/// Times allreduces from 4 KiB to 4 MiB on an otherwise idle `group` and fits their cost; all
/// zero for one rank. Values of 16 bits are summed in another way than those of 32, at another
/// cost. Collective; blocks.
AllreduceCost measure_allreduce(Communicator& group, at::ScalarType type = at::kFloat);

/// One way to send gradients, and what a step would take.
struct CompressionChoice {
  std::string name;  ///< such as "acp_sgd rank 4"; "none" for gradients as they are
  CompressionCost cost;
  StepPrediction step{};
  std::optional<AllreduceCost> wire{};  ///< of the values that it sends, where not float32
};

/// When each bucket is full, in seconds since the backward pass began, if gradients come evenly,
/// byte by byte, all through it.
std::vector<double> evenly_ready(const BucketPlan& plan, double backward_s);

/// Fills in what a step takes for each choice: predict_staged_step() with each bucket ready
/// when `ready_s` says, by bucket, on a wire of the choice's cost or of `wire`'s. `compute` is a
/// step without communication, its buckets do not count.
void predict_choices(std::vector<CompressionChoice>& choices, const StepCompute& compute,
                     const std::vector<double>& ready_s, const AllreduceCost& wire, int ranks);

/// Which choice to take, and why, in one line.
struct CompressionAdvice {
  size_t choice = 0;  ///< index; 0 is "none"
  std::string reason;
};

/// The fastest of the predicted choices, if it takes at most 1 - margin of the first one's
/// step, which is without compression; else the first. The margin pays for what a model does
/// not know, and for what compression costs in accuracy.
CompressionAdvice advise_compression(const std::vector<CompressionChoice>& choices,
                                     double margin = 0.1);

}  // namespace isobar
