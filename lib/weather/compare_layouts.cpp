// SPDX-License-Identifier: Apache-2.0
// `isobar verify-layout`. Each layout trains in a world of threads; those of the first replica put
// their parts of gradients and weights together, under a lock. A barrier before and after keeps the
// steps apart: no rank writes into a step's list before rank 0 has begun it, or while it is read.
#include <isobar/weather/compare_layouts.hpp>

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/optimizer.hpp>
#include <isobar/weather/weather_setup.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

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
          const LayoutComparison& comparison, Collector& collector)
      : grid_(grid),
        method_(method),
        comparison_(comparison),
        collector_(collector),
        setup_(experiment, grid),
        samples_(setup_.training_samples()),
        rate_(experiment.trainer.schedule.peak) {
    setup_.task().module->to(method.type);
  }

  void run() {
    const auto& task = setup_.task();
    const DataParallelOptions shared{.reduction = task.reduction,
                                     .single_replica = SingleReplica::allowed};
    DataParallel parallel(*task.module, grid_, shared);
    OptimizerOptions options{.method = method_.optimizer};
    Optimizer optimizer(parallel.reducer(), options);
    for (int64_t step = 0; step < comparison_.steps; ++step) {
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
    const int64_t each = comparison_.samples / grid_.data().size();
    std::vector<int64_t> indices(each);
    for (int64_t i = 0; i < each; ++i) {
      indices[i] = (step * comparison_.samples + grid_.data().rank() * each + i) % samples_->size();
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
  const LayoutComparison& comparison_;
  Collector& collector_;
  WeatherSetup setup_;
  std::shared_ptr<const SampleSet> samples_;
  double rate_;
};

Outcome train(Experiment experiment, const Layout& layout, const Method& method,
              const LayoutComparison& comparison) {
  experiment.model_ranks = layout.model;
  Outcome outcome;
  Collector collector(outcome);
  run_ranks(layout.model * layout.replicas, [&](Communicator& world) {
    const ProcessGrid grid(world, layout.model);
    RankRun(experiment, grid, method, comparison, collector).run();
  });
  return outcome;
}

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

std::vector<LayoutDifference> compare(const Outcome& got, const Outcome& wanted,
                                      const LayoutDifference& head, at::ScalarType type) {
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
  std::vector<LayoutDifference> rows;
  for (const auto& [quantity, found] : largest) {
    rows.push_back(head);
    rows.back().tolerance = tolerance(quantity, type);
    rows.back().quantity = quantity;
    rows.back().tensor = found.tensor;
    rows.back().difference = found.difference;
  }
  return rows;
}

std::vector<LayoutDifference> compare_by(const Experiment& experiment, const Method& method,
                                         const LayoutComparison& comparison) {
  const bool is_double = method.type == at::kDouble;
  const auto wanted = train(experiment, {1, 1}, method, comparison);
  std::vector<LayoutDifference> rows;
  for (const Layout& layout : {Layout{1, 4}, Layout{2, 2}, Layout{4, 1}}) {
    const LayoutDifference head{.layout = layout.text(),
                                .optimizer = method.optimizer,
                                .precision = is_double ? "float64" : "float32",
                                .quantity = {},
                                .tensor = {}};
    for (auto& row :
         compare(train(experiment, layout, method, comparison), wanted, head, method.type)) {
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace

void compare_layouts(Experiment experiment, const LayoutComparison& comparison,
                     const std::function<void(const LayoutDifference&)>& on_row) {
  ISOBAR_CHECK(comparison.samples % 4 == 0,
               "verify-layout: --samples must be a multiple of 4, got ", comparison.samples);
  experiment.trainer.batch = 1;  // --samples are taken: train.batch may be more than there are
  for (const auto& path : experiment.data.paths) {
    ISOBAR_CHECK(std::filesystem::exists(path),
                 "verify-layout: it trains on the experiment's data, "
                 "and data.path, '",
                 path, "', is not there; isobar plan needs no data");
  }
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const char* optimizer : {"sgd", "adamw"}) {
      for (const auto& row : compare_by(experiment, {optimizer, type}, comparison)) on_row(row);
    }
  }
}

}  // namespace isobar
