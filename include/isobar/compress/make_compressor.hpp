// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/compress/low_rank.hpp>
#include <isobar/ddp/compressor.hpp>
#include <isobar/ddp/reducer_options.hpp>

#include <memory>
#include <string>
#include <vector>

namespace isobar {

/// How gradients are compressed, as experiments and benchmarks choose it.
struct CompressionOptions {
  std::string method = "none";
  LowRankOptions low_rank = {};  ///< of acp_sgd and power_sgd
};

/// What stands for a method until one is chosen, see choose_compression().
inline constexpr const char* kAutoCompression = "auto";

/// "none" and the names of all methods.
std::vector<std::string> compression_methods();

/// A compressor for one reducer; null for "none". Throws UsageError for an unknown method
/// and for options that make no sense.
std::shared_ptr<Compressor> make_compressor(const CompressionOptions& options);

/// Of the values that a method sums over ranks, float32 but for "bf16" and "fp16"; of int8, which
/// sums none, too.
at::ScalarType type_summed(const CompressionOptions& options);

/// Such as "acp_sgd rank 4", or "bf16".
std::string name_of(const CompressionOptions& options);

/// One line: how many steps were compressed, and what that saved, or why none was. `replicas` are
/// the ranks over which gradients are summed.
std::string describe_saving(const CompressionOptions& options, const ReducerCounters& counters,
                            int replicas);

}  // namespace isobar
