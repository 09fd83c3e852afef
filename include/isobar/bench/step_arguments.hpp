// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/measure_step.hpp>
#include <isobar/bench/workload.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar::bench {

/// What a program that measures a training step is asked for, in the words of its command line.
struct StepArguments {
  std::string model = "mlp";
  int64_t layers = 8;
  int64_t width = 1024;      ///< mlp
  double emulate_ms = 0;     ///< mlp, see LinearStackOptions::emulated_s
  std::string grid = "O32";  ///< gnn, as are the next eight
  int64_t hidden = 3;
  int64_t channels = 128;
  int64_t prognostic = 10;
  int64_t forcing = 2;
  std::string shard;  ///< how the model's ranks share the gnn's graph; empty: each has all of it
  bool recompute = false;             ///< activations in the backward pass, instead of keeping them
  std::string precision = "float32";  ///< what the gnn computes in
  int64_t chunk_edges = 0;            ///< of the gnn, computed together; 0: what suits the device
  std::string device = "cpu";
  int64_t batch = 0;  ///< samples of a rank; 0: 128 of mlp, 1 of gnn
  uint64_t seed = 0;
  std::string sync = "ddp";
  std::string bucket_cap = "25MiB";
  std::string first_bucket_cap = "1MiB";
  std::string optimizer = "sgd";
  double learning_rate = 0.01;
  int threads = 1;
  std::string repeats = "auto";
  int warmup = 2;
  bool memory = false;               ///< three steps before all others say what steps add
  double stream_s = 1;               ///< length of each plain stream; 0 leaves them out
  std::string json;                  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;  ///< program and arguments, for the report

  int64_t samples() const { return batch > 0 ? batch : model == "mlp" ? 128 : 1; }
  LinearStackOptions linear_stack() const {
    return {.layers = layers,
            .width = width,
            .batch = samples(),
            .seed = seed,
            .emulated_s = 1e-3 * emulate_ms};
  }
};

/// A bucket cap in bytes. Throws UsageError for what is no size and for "auto".
int64_t parse_bucket_cap(const std::string& text);

/// Warm-up and repeats as asked for.
StepOptions step_options(const StepArguments& arguments);

/// The network and the data of `rank` that are asked for. Throws UsageError for a grid that
/// there is not.
MakeWorkload choose_workload(const StepArguments& arguments, int rank);

}  // namespace isobar::bench
