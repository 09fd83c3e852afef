// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_parallel.hpp"

#include <isobar/ddp/data_parallel.hpp>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <map>

#include "bench/harness/option_check.hpp"

namespace isobar {
namespace {

class ParallelSync final : public bench::StepSync {
 public:
  /// Without an optimizer the update is not a part of finish().
  ParallelSync(std::unique_ptr<DataParallel> parallel, std::unique_ptr<Optimizer> fused,
               double learning_rate)
      : parallel_(std::move(parallel)), fused_(std::move(fused)), learning_rate_(learning_rate) {}

  std::string name() const override { return "ddp"; }
  void zero_grad() override { parallel_->zero_grad(); }

  void finish() override {
    if (fused_) {
      fused_->finish(*parallel_, learning_rate_);
    } else {
      parallel_->finish();
    }
  }

  bench::SyncTotals totals() const override {
    const auto& counters = parallel_->reducer().counters();
    return {.payload_bytes = counters.payload_bytes,
            .exposed_s = counters.exposed_seconds + parallel_->buffer_counters().seconds};
  }

  std::vector<bench::SyncBucket> buckets() const override {
    std::vector<bench::SyncBucket> found;
    for (const auto& bucket : parallel_->reducer().plan()) found.push_back(bucket.parameters);
    return found;
  }

 private:
  std::unique_ptr<DataParallel> parallel_;
  std::unique_ptr<Optimizer> fused_;
  double learning_rate_;
};

const std::map<std::string, GridLevels> kLevels = {{"flat", GridLevels::flat},
                                                   {"two", GridLevels::two}};
const std::map<std::string, Launch> kLaunches = {{"first_gradient", Launch::first_gradient},
                                                 {"counted", Launch::counted},
                                                 {"at_finish", Launch::at_finish}};
const std::map<std::string, BufferAction> kBufferActions = {{"none", BufferAction::none},
                                                            {"broadcast", BufferAction::broadcast},
                                                            {"compare", BufferAction::compare}};

int64_t parse_last_cap(const std::string& text) {
  return text == "none" ? 0 : bench::parse_bucket_cap(text);
}

DataParallelOptions parallel_options(const bench::StepArguments& step,
                                     const ParallelArguments& arguments) {
  return {.bucket_cap_bytes = bench::parse_bucket_cap(step.bucket_cap),
          .first_bucket_cap_bytes = bench::parse_bucket_cap(step.first_bucket_cap),
          .last_bucket_cap_bytes = parse_last_cap(arguments.last_bucket_cap),
          .launch = kLaunches.at(arguments.launch),
          .levels = kLevels.at(arguments.levels),
          .buffers = {.action = kBufferActions.at(arguments.buffers)}};
}

}  // namespace

void add_parallel_options(CLI::App& app, ParallelArguments& arguments) {
  app.add_option("--model-ranks", arguments.model_ranks, "ranks that share a model, on a grid")
      ->check(CLI::PositiveNumber);
  app.add_option("--levels", arguments.levels, "how the ranks of a grid reduce")
      ->check(CLI::IsMember(kLevels));
  app.add_option("--launch", arguments.launch, "when a bucket's reduction starts")
      ->check(CLI::IsMember(kLaunches));
  app.add_option("--last-bucket-cap", arguments.last_bucket_cap,
                 "the most that the last bucket holds; none: like the others")
      ->check(bench::checked_by(parse_last_cap));
  app.add_option("--update", arguments.update,
                 "fused: each bucket's as its reduction ends, counted as backward")
      ->check(CLI::IsMember({"separate", "fused"}));
  app.add_option("--buffers", arguments.buffers, "what each step does with buffers")
      ->check(CLI::IsMember(kBufferActions));
}

nlohmann::json parallel_fields(const ParallelArguments& arguments) {
  return {{"model_ranks", arguments.model_ranks}, {"levels", arguments.levels},
          {"launch", arguments.launch},           {"last_bucket_cap", arguments.last_bucket_cap},
          {"update", arguments.update},           {"buffers", arguments.buffers}};
}

OptimizerOptions optimizer_options(const bench::StepArguments& step, FusedUpdate fused) {
  return {
      .method = step.optimizer, .weight_decay = step.optimizer == "sgd" ? 0 : 0.01, .fused = fused};
}

std::unique_ptr<bench::StepSync> make_parallel_sync(torch::nn::Module& module, Communicator& world,
                                                    const ProcessGrid* grid,
                                                    const bench::StepArguments& step,
                                                    const ParallelArguments& arguments) {
  const auto options = parallel_options(step, arguments);
  auto parallel = grid ? std::make_unique<DataParallel>(module, *grid, options)
                       : std::make_unique<DataParallel>(module, world, options);
  std::unique_ptr<Optimizer> fused;
  if (arguments.update == "fused") {
    fused =
        std::make_unique<Optimizer>(parallel->reducer(), optimizer_options(step, FusedUpdate::on));
  }
  return std::make_unique<ParallelSync>(std::move(parallel), std::move(fused), step.learning_rate);
}

}  // namespace isobar
