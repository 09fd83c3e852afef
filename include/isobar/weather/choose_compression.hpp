// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/process_grid.hpp>
#include <isobar/ddp/bucket_plan.hpp>
#include <isobar/train/task.hpp>

#include <string>

#include <isobar/compress/make_compressor.hpp>

namespace isobar {

/// Puts the method that pays in the place of "auto", and returns why, in one line.
///
/// Times passes of `task` over `batch` (its weights stay as they are, gradients are dropped),
/// allreduces over the data-parallel group, whose ranks the sums cross, and what bf16, acp_sgd and
/// power_sgd make of gradients of these shapes. A bucket counts as full when its share of the
/// backward pass's bytes has passed, and an update takes no time. Compression stays off unless it
/// is predicted to win a tenth of the step; where ranks share a model, by the first one's tables.
/// Takes the gradients' memory four times. The same on every rank. Collective over the world;
/// blocks for some seconds.
std::string choose_compression(CompressionOptions& options, const Task& task, const Batch& batch,
                               const BucketCaps& caps, const ProcessGrid& grid);

}  // namespace isobar
