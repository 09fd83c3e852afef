// SPDX-License-Identifier: Apache-2.0
// Whether a broadcast of buffers changes what a network learns, and what it costs: two replicas of
// one network train in one program on the same samples, step by step in turn, one of them with a
// broadcast of its buffers in each step.
//   mpirun -n 4 buffer_broadcast --model gnn --steps 1000
//   mpirun -n 4 buffer_broadcast --model batch_norm --steps 1000
// "gnn" has the mesh in its buffers, equal on all ranks for ever. "batch_norm" is the control: its
// running statistics are each rank's own, so that the broadcast must change its validation score.
#include <isobar/bench/communicator_subject.hpp>
#include <isobar/bench/measure.hpp>
#include <isobar/bench/random_values.hpp>
#include <isobar/bench/step_check.hpp>
#include <isobar/bench/workload.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/model/loss.hpp>
#include <isobar/model/weather_gnn.hpp>
#include <isobar/train/optimizer.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>

#include "bench/baselines/launch.hpp"

namespace isobar::bench {
namespace {

constexpr int64_t kFeatures = 24;
constexpr int64_t kVariables = 10;
constexpr double kLearningRate = 1e-3;

struct BufferArguments {
  std::string model = "gnn";
  std::string backend = "auto";
  std::string grid = "O16";
  int64_t hidden = 2;
  int64_t channels = 32;
  int64_t layers = 2;
  int64_t steps = 1000;
  std::string json;
  std::vector<std::string> command;
};

/// A forward pass and the module whose parameters and buffers it uses.
struct Network {
  std::shared_ptr<torch::nn::Module> module;
  std::function<at::Tensor(const at::Tensor&)> forward;
};

/// Two layers on each grid point with batch normalisation between them, over all points.
class BatchNormNetwork final : public torch::nn::Module {
 public:
  explicit BatchNormNetwork(int64_t channels) {
    const auto weight = [&](const std::string& name, int64_t out, int64_t in) {
      return register_parameter(
          name, random_values({out, in}, 1 / std::sqrt(static_cast<double>(in)), 0, name));
    };
    first_ = weight("first", channels, kFeatures);
    second_ = weight("second", kVariables, channels);
    scale_ = register_parameter("scale", at::ones({channels}));
    shift_ = register_parameter("shift", at::zeros({channels}));
    mean_ = register_buffer("running_mean", at::zeros({channels}));
    variance_ = register_buffer("running_var", at::ones({channels}));
  }

  at::Tensor forward(const at::Tensor& x) {
    const auto latent = at::linear(x.flatten(0, 1), first_);
    const auto normed = at::batch_norm(latent, scale_, shift_, mean_, variance_, is_training(),
                                       /*momentum=*/0.1, /*eps=*/1e-5, /*cudnn_enabled=*/false);
    return at::linear(at::relu(normed), second_).view({x.size(0), x.size(1), kVariables});
  }

 private:
  at::Tensor first_, second_, scale_, shift_, mean_, variance_;
};

Network make_network(const BufferArguments& arguments, const WeatherGraph& graph) {
  if (arguments.model == "batch_norm") {
    const auto module = std::make_shared<BatchNormNetwork>(arguments.channels);
    return {module, [module](const at::Tensor& x) { return module->forward(x); }};
  }
  const auto module = std::make_shared<WeatherGnn>(WeatherGnnOptions{.features_in = kFeatures,
                                                                     .features_out = kVariables,
                                                                     .channels = arguments.channels,
                                                                     .layers = arguments.layers},
                                                   graph);
  return {module, [module](const at::Tensor& x) { return module->forward(x); }};
}

struct Sample {
  at::Tensor input, target;
};

/// Something that can be learned. What is large varies from rank to rank, as regions and seasons
/// do.
Sample make_sample(const std::string& name, int64_t points, double amplitude) {
  const auto input = random_values({1, points, kFeatures}, amplitude, 0, name);
  const auto target =
      at::tanh(input.narrow(2, 0, kVariables)) + 0.5 * input.narrow(2, kVariables, kVariables);
  return {input, target};
}

/// One replica with its optimizer.
class Replica {
 public:
  Replica(Network network, Communicator& comm, BufferAction action)
      : network_(std::move(network)),
        parallel_(*network_.module, comm, {.buffers = {.action = action}}),
        optimizer_(parallel_.reducer(), {}) {}

  double step(const Sample& sample, const WeatherGraph& graph) {
    const Stopwatch watch;
    network_.module->train();
    parallel_.zero_grad();
    wmse(sample, graph).backward();
    optimizer_.finish(parallel_, kLearningRate);
    return watch.elapsed_s();
  }

  double score(const Sample& sample, const WeatherGraph& graph) {
    const c10::NoGradGuard no_gradient;
    network_.module->eval();
    return wmse(sample, graph).item<double>();
  }

  torch::nn::Module& module() { return *network_.module; }

 private:
  at::Tensor wmse(const Sample& sample, const WeatherGraph& graph) {
    return weighted_mse(network_.forward(sample.input), sample.target, graph.data.area,
                        at::ones({kVariables}));
  }

  Network network_;
  DataParallel parallel_;
  Optimizer optimizer_;
};

/// Of each step, this rank's.
struct Runs {
  std::vector<double> without_s, with_s;        ///< time of a step
  std::vector<double> without_wmse, with_wmse;  ///< validation score after it
};

Runs train(Replica& without, Replica& with, Subject& ranks, const WeatherGraph& graph,
           int64_t steps) {
  const int64_t points = graph.data_nodes();
  const auto validation = make_sample("validation", points, 1);
  Runs runs;
  for (int64_t step = 0; step < steps; ++step) {
    const auto sample = make_sample(fmt::format("sample {} {}", step, ranks.rank()), points,
                                    1 + 0.2 * ranks.rank());
    for (const bool is_with : {step % 2 == 0, step % 2 != 0}) {
      auto& replica = is_with ? with : without;
      ranks.barrier();
      (is_with ? runs.with_s : runs.without_s).push_back(replica.step(sample, graph));
    }
    runs.without_wmse.push_back(without.score(validation, graph));
    runs.with_wmse.push_back(with.score(validation, graph));
    if (ranks.rank() == 0 && (step + 1) % 100 == 0) {
      fmt::print(stderr, "step {} of {}: WMSE {:.6f} and {:.6f}\n", step + 1, steps,
                 runs.without_wmse.back(), runs.with_wmse.back());
    }
  }
  return runs;
}

/// Whether each step's scores differ on any rank, in any bit.
std::vector<double> differences(Subject& ranks, const Runs& runs) {
  std::vector<double> differs;
  for (size_t i = 0; i < runs.with_wmse.size(); ++i) {
    const bool same =
        std::bit_cast<uint64_t>(runs.with_wmse[i]) == std::bit_cast<uint64_t>(runs.without_wmse[i]);
    differs.push_back(same ? 0 : 1);
  }
  return largest_over_ranks(ranks, differs);
}

nlohmann::json make_row(Subject& ranks, const BufferArguments& arguments, Runs runs,
                        const torch::nn::Module& module, bool same_parameters) {
  int64_t bytes = 0, buffers = 0;
  for (const auto& buffer : module.buffers()) {
    bytes += static_cast<int64_t>(buffer.nbytes());
    ++buffers;
  }
  std::vector<double> apart, saved_s;
  for (size_t i = 0; i < runs.with_wmse.size(); ++i) {
    apart.push_back(std::abs(runs.with_wmse[i] - runs.without_wmse[i]));
  }
  const auto differs = differences(ranks, runs);
  const double largest = summarize(largest_over_ranks(ranks, apart)).maximum;
  runs.without_s = largest_over_ranks(ranks, runs.without_s);
  runs.with_s = largest_over_ranks(ranks, runs.with_s);
  for (size_t i = 0; i < runs.with_s.size(); ++i) {
    saved_s.push_back(runs.with_s[i] - runs.without_s[i]);
  }
  const auto saved = summarize(saved_s);
  return {{"model", arguments.model},
          {"backend", ranks.backend()},
          {"ranks", ranks.size()},
          {"steps", arguments.steps},
          {"buffers", buffers},
          {"buffer_bytes", bytes},
          {"steps_that_differ", std::count(differs.begin(), differs.end(), 1.0)},
          {"largest_difference", largest},
          {"first_wmse", runs.without_wmse.front()},
          {"last_wmse", runs.without_wmse.back()},
          {"without_s", summarize(runs.without_s).median},
          {"with_s", summarize(runs.with_s).median},
          {"saved_s", saved.median},
          {"saved_low_s", saved.interval_low},
          {"saved_high_s", saved.interval_high},
          {"error", same_parameters ? 0 : 1}};
}

void print(const nlohmann::json& row) {
  fmt::print(
      "{} on {} ranks through {}: {} buffers of {} bytes; of {} steps {} have another WMSE with "
      "the broadcast, by {:.3g} at most\n"
      "WMSE {:.6f} after the first step, {:.6f} after the last; a step takes {:.2f} ms, with the "
      "broadcast {:.2f}; it costs {:.2f} ms ({:.2f} to {:.2f}); error {}\n",
      row["model"].get<std::string>(), row["ranks"].get<int>(), row["backend"].get<std::string>(),
      row["buffers"].get<int64_t>(), row["buffer_bytes"].get<int64_t>(),
      row["steps"].get<int64_t>(), row["steps_that_differ"].get<int64_t>(),
      row["largest_difference"].get<double>(), row["first_wmse"].get<double>(),
      row["last_wmse"].get<double>(), 1e3 * row["without_s"].get<double>(),
      1e3 * row["with_s"].get<double>(), 1e3 * row["saved_s"].get<double>(),
      1e3 * row["saved_low_s"].get<double>(), 1e3 * row["saved_high_s"].get<double>(),
      row["error"].get<int>());
}

void add_buffer_options(CLI::App& app, BufferArguments& arguments) {
  app.add_option("--model", arguments.model)->check(CLI::IsMember({"gnn", "batch_norm"}));
  app.add_option("--backend", arguments.backend, "a backend of comm.backend");
  app.add_option("--grid", arguments.grid, "reduced Gaussian grid of the data");
  app.add_option("--hidden", arguments.hidden, "icosphere level of the gnn's hidden mesh")
      ->check(CLI::Range(0, 10));
  app.add_option("--channels", arguments.channels)->check(check_positive);
  app.add_option("--layers", arguments.layers, "of the gnn")->check(check_positive);
  app.add_option("--steps", arguments.steps)->check(check_positive);
  app.add_option("--json", arguments.json, "write the row there; - is standard output")
      ->check(check_report_file);
}

int run(const BufferArguments& arguments) {
  const auto comm = make_communicator({.backend = arguments.backend, .deterministic = true});
  const auto ranks = make_communicator_subject(*comm, Collective::all_gather);
  const auto graph =
      build_graph(make_gaussian_grid(arguments.grid), {.hidden_level = arguments.hidden});
  Replica without(make_network(arguments, graph), *comm, BufferAction::none);
  Replica with(make_network(arguments, graph), *comm, BufferAction::broadcast);
  auto runs = train(without, with, *ranks, graph, arguments.steps);
  const bool same = same_on_all_ranks(*ranks, trainable_parameters(without.module())) &&
                    same_on_all_ranks(*ranks, trainable_parameters(with.module()));
  const auto row = make_row(*ranks, arguments, std::move(runs), without.module(), same);
  if (ranks->rank() == 0) {
    if (arguments.json != "-") print(row);
    write_report(arguments.json, "isobar.bench.buffers.1", arguments.command,
                 nlohmann::json::array({row}));
  }
  ranks->barrier();
  return same ? 0 : 1;
}

}  // namespace
}  // namespace isobar::bench

int main(int argc, char** argv) {
  isobar::bench::BufferArguments arguments;
  arguments.command.assign(argv, argv + argc);
  return isobar::bench::run_program(
      argc, argv, "What a broadcast of buffers in each step changes, and what it costs",
      [&](CLI::App& app) { isobar::bench::add_buffer_options(app, arguments); },
      [&] { return isobar::bench::run(arguments); });
}
