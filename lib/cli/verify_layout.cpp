// SPDX-License-Identifier: Apache-2.0
#include "cli/verify_layout.hpp"

#include "cli/report.hpp"
#include "cli/weather_setup.hpp"

#include <isobar/comm/make_communicator.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/optimizer.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <numeric>

#include "bench/harness/option_check.hpp"

namespace isobar {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

/// Ranks of a model times replicas.
struct Layout {
  int model, replicas;
  std::string text() const { return fmt::format("{}x{}", model, replicas); }
};

struct Method {
  std::string optimizer;
  at::ScalarType type;
};

/// What training came to, put together from all ranks.
struct Outcome {
  std::vector<double> losses;      ///< by step
  std::vector<Tensors> gradients;  ///< by step
  Tensors weights;                 ///< after the last
  std::map<std::string, Reduction> reductions;
};

/// Rank threads of the first replica put their parts in.
class Collector {
 public:
  explicit Collector(Outcome& outcome) : outcome_(outcome) {}

  void put(Tensors& whole, const std::string& name, const at::Tensor& part,
           const std::optional<ShardedRows>& rows) {
    const std::scoped_lock lock(mutex_);
    auto& place = whole[name];
    if (!rows) {
      place = part.detach().clone();
      return;
    }
    if (!place.defined()) place = at::zeros({rows->total, part.size(1)}, part.options());
    place.index_copy_(0, rows->rows, part.detach());
  }

  Outcome& outcome() { return outcome_; }

 private:
  Outcome& outcome_;
  std::mutex mutex_;
};

Batch converted(Batch batch, at::ScalarType type) {
  for (at::Tensor* tensor : {&batch.state, &batch.forcing, &batch.target, &batch.reference}) {
    if (tensor->defined()) *tensor = tensor->to(type);
  }
  return batch;
}

/// One rank's training.
class RankRun {
 public:
  RankRun(const Experiment& experiment, const ProcessGrid& grid, const Method& method,
          const VerifyLayoutArguments& arguments, Collector& collector)
      : grid_(grid),
        method_(method),
        arguments_(arguments),
        collector_(collector),
        setup_(experiment, grid),
        samples_(setup_.training_samples()),
        rate_(experiment.trainer.schedule.peak) {
    setup_.task().module->to(method.type);
  }

  void run() {
    const auto& task = setup_.task();
    DataParallel parallel(*task.module, grid_,
                          {.reduction = task.reduction, .single_replica = SingleReplica::allowed});
    OptimizerOptions options{.method = method_.optimizer};
    Optimizer optimizer(parallel.reducer(), options);
    for (int64_t step = 0; step < arguments_.steps; ++step) {
      parallel.zero_grad();
      const auto loss = task.loss(batch(step));
      loss.backward();
      parallel.finish();
      record_step(parallel.reducer().parameters(), loss.item<double>());
      optimizer.step(rate_);
    }
    if (grid_.data().rank() != 0) return;
    for (const auto& parameter : parallel.reducer().parameters()) {
      collector_.put(collector_.outcome().weights, parameter.name, parameter.tensor,
                     rows(parameter.name));
    }
  }

 private:
  std::optional<ShardedRows> rows(const std::string& name) const {
    return setup_.task().rows ? setup_.task().rows(name) : std::nullopt;
  }

  /// The same samples a step whatever the layout, in the same order over the replicas.
  Batch batch(int64_t step) const {
    const int64_t each = arguments_.samples / grid_.data().size();
    std::vector<int64_t> indices(each);
    for (int64_t i = 0; i < each; ++i) {
      indices[i] = (step * arguments_.samples + grid_.data().rank() * each + i) % samples_->size();
    }
    return converted(samples_->get(indices), method_.type);
  }

  void record_step(const std::vector<NamedParameter>& parameters, double share) {
    // A share of the model's ranks, and each replica's mean over its samples.
    auto loss = at::full({1}, share / grid_.data().size(), at::kDouble);
    grid_.world().allreduce(loss).wait();
    auto& outcome = collector_.outcome();
    if (grid_.world().rank() == 0) {
      outcome.losses.push_back(loss.item<double>());
      outcome.gradients.emplace_back();
      for (const auto& p : parameters) outcome.reductions[p.name] = p.reduction;
    }
    grid_.world().barrier().wait();
    if (grid_.data().rank() == 0) {
      for (const auto& parameter : parameters) {
        collector_.put(outcome.gradients.back(), parameter.name, parameter.tensor.grad(),
                       rows(parameter.name));
      }
    }
    grid_.world().barrier().wait();
  }

  const ProcessGrid& grid_;
  const Method& method_;
  const VerifyLayoutArguments& arguments_;
  Collector& collector_;
  WeatherSetup setup_;
  std::shared_ptr<const SampleSet> samples_;
  double rate_;
};

Outcome train(Experiment experiment, const Layout& layout, const Method& method,
              const VerifyLayoutArguments& arguments) {
  experiment.model_ranks = layout.model;
  Outcome outcome;
  Collector collector(outcome);
  run_ranks(layout.model * layout.replicas, [&](Communicator& world) {
    const ProcessGrid grid(world, layout.model);
    RankRun(experiment, grid, method, arguments, collector).run();
  });
  return outcome;
}

struct Row {
  std::string layout, optimizer, precision, quantity;
  std::string tensor;     ///< whose difference is the largest; empty for the loss
  double difference = 0;  ///< the largest, of a loss to its size or of a tensor to its norm
  double tolerance = 0;
  bool holds() const { return difference <= tolerance; }
};

/// The largest difference of a kind, and whose it is.
struct Largest {
  double difference = 0;
  std::string tensor;

  /// What is no number wins.
  void raise(double value, const std::string& name) {
    if (!(value <= difference)) *this = {value, name};
  }
};

double relative(const at::Tensor& got, const at::Tensor& wanted) {
  const double size = wanted.norm().item().toDouble();
  const double off = (got - wanted).norm().item().toDouble();
  return size > 0 ? off / size : off;
}

/// Float32 rounds what is summed over ranks and samples to some 1e-7 of a tensor's norm, more where
/// it cancels. adamw divides by it: of weights that its first updates moved apart gradients differ
/// by more.
double tolerance(const std::string& quantity, at::ScalarType type) {
  if (type == at::kDouble) return 1e-12;
  if (quantity == "loss") return 1e-6;
  return quantity.starts_with("gradients") ? 3e-6 : 2e-5;
}

std::vector<Row> compare(const Outcome& got, const Outcome& wanted, const Row& head,
                         at::ScalarType type) {
  std::map<std::string, Largest> largest{{"loss", {}}};
  for (size_t i = 0; i < wanted.losses.size(); ++i) {
    largest["loss"].raise(std::abs(got.losses[i] / wanted.losses[i] - 1), "");
    for (const auto& [name, gradient] : wanted.gradients[i]) {
      const auto kind = "gradients, " + std::string(to_string(got.reductions.at(name)));
      largest[i == 0 ? kind : "later " + kind].raise(relative(got.gradients[i].at(name), gradient),
                                                     name);
    }
  }
  for (const auto& [name, weight] : wanted.weights) {
    largest["weights"].raise(relative(got.weights.at(name), weight), name);
  }
  std::vector<Row> rows;
  for (const auto& [quantity, found] : largest) {
    rows.push_back(head);
    rows.back().tolerance = tolerance(quantity, type);
    rows.back().quantity = quantity;
    rows.back().tensor = found.tensor;
    rows.back().difference = found.difference;
  }
  return rows;
}

std::vector<Row> compare_layouts(const Experiment& experiment, const Method& method,
                                 const VerifyLayoutArguments& arguments) {
  const bool is_double = method.type == at::kDouble;
  const auto wanted = train(experiment, {1, 1}, method, arguments);
  std::vector<Row> rows;
  for (const Layout& layout : {Layout{1, 4}, Layout{2, 2}, Layout{4, 1}}) {
    const Row head{.layout = layout.text(),
                   .optimizer = method.optimizer,
                   .precision = is_double ? "float64" : "float32",
                   .quantity = {},
                   .tensor = {}};
    for (auto& row :
         compare(train(experiment, layout, method, arguments), wanted, head, method.type)) {
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

void print_row(const Row& row) {
  fmt::print("{:6} {:5} {:7} {:28} {:9.2e} {:6.0e} {}\n", row.layout, row.optimizer, row.precision,
             row.quantity, row.difference, row.tolerance, row.holds() ? "holds" : "FAILS");
  if (!row.holds() && !row.tensor.empty()) fmt::print("       largest in {}\n", row.tensor);
  std::fflush(stdout);
}

nlohmann::json json_of(const Row& row) {
  return {{"layout", row.layout},       {"optimizer", row.optimizer},
          {"precision", row.precision}, {"quantity", row.quantity},
          {"tensor", row.tensor},       {"difference", row.difference},
          {"tolerance", row.tolerance}, {"holds", row.holds()}};
}

}  // namespace

void add_verify_layout_options(CLI::App& app, VerifyLayoutArguments& arguments) {
  app.add_option("experiment", arguments.experiment, "a YAML file")->required();
  app.add_option("overrides", arguments.overrides, "section.key=value, over the file's");
  app.add_option("--steps", arguments.steps, "updates")->check(bench::check_positive);
  app.add_option("--samples", arguments.samples, "a step, of all ranks; a multiple of 4")
      ->check(bench::check_positive);
  app.add_option("--json", arguments.json, "write the rows there; - is standard output");
}

int run_verify_layout(const VerifyLayoutArguments& arguments) {
  ISOBAR_CHECK(arguments.samples % 4 == 0, "verify-layout: --samples must be a multiple of 4, got ",
               arguments.samples);
  const auto experiment = read_experiment(load_config(arguments.experiment, arguments.overrides));
  for (const auto& path : experiment.data.paths) {
    ISOBAR_CHECK(std::filesystem::exists(path),
                 "verify-layout: it trains on the experiment's data, "
                 "and data.path, '",
                 path, "', is not there; isobar plan needs no data");
  }
  bool holds = true;
  auto rows = nlohmann::json::array();
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const char* optimizer : {"sgd", "adamw"}) {
      for (const Row& row : compare_layouts(experiment, {optimizer, type}, arguments)) {
        holds = holds && row.holds();
        rows.push_back(json_of(row));
        if (arguments.json != "-") print_row(row);
      }
    }
  }
  write_report(arguments.json, "isobar.verify_layout.1", arguments.command, rows);
  if (arguments.json != "-") fmt::print("{}\n", holds ? "layouts agree" : "layouts DIFFER");
  return holds ? 0 : 1;
}

}  // namespace isobar
