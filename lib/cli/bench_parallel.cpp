// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_parallel.hpp"

#include <isobar/ddp/data_parallel.hpp>
#include <ATen/ops/zeros.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <map>

#include "bench/harness/option_check.hpp"

namespace isobar {
namespace {

/// All of the parameter's elements; of a rank's share, those that it has not are zero.
at::Tensor residual_of(const CompressorState& state, const NamedParameter& parameter) {
  auto whole = at::zeros({parameter.tensor.numel()}, parameter.tensor.options());
  for (const auto& [key, tensor] : state.tensors) {
    if (key != parameter.name + ".residual") continue;
    const auto first = state.counts.at(parameter.name + ".first");
    whole.narrow(0, first, tensor.numel()).copy_(tensor.view({-1}));
  }
  return whole;
}

/// Beside what residuals account for: 16 bits round, float16 has no values below 2^-24, and
/// factors are sums of products in float32.
bench::SyncLoss loss_of(const std::string& method) {
  if (method == "none") return {};
  if (method == "bf16") return {.of_largest = 0x1p-7};
  if (method == "fp16") return {.of_largest = 0x1p-10, .absolute = 0x1p-22};
  return {.of_largest = 0x1p-14};
}

class ParallelSync final : public bench::StepSync {
 public:
  /// Without an optimizer the update is not a part of finish().
  ParallelSync(std::unique_ptr<DataParallel> parallel, std::unique_ptr<Optimizer> fused,
               double learning_rate, std::shared_ptr<Compressor> compressor, bench::SyncLoss loss)
      : parallel_(std::move(parallel)),
        fused_(std::move(fused)),
        learning_rate_(learning_rate),
        compressor_(std::move(compressor)),
        loss_(loss) {}

  std::string name() const override { return "ddp"; }
  bench::SyncLoss loss() const override { return loss_; }
  void zero_grad() override { parallel_->zero_grad(); }

  std::vector<at::Tensor> residuals() const override {
    if (!compressor_) return {};
    const auto state = compressor_->state();
    std::vector<at::Tensor> found;
    for (const auto& parameter : parallel_->reducer().parameters()) {
      found.push_back(residual_of(state, parameter));
    }
    return found;
  }

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
            .exposed_s = counters.exposed_seconds + parallel_->buffer_counters().seconds,
            .sent_bytes = counters.sent_bytes};
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
  std::shared_ptr<Compressor> compressor_;
  bench::SyncLoss loss_;
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
                                     const ParallelArguments& arguments,
                                     std::shared_ptr<Compressor> compressor) {
  return {.bucket_cap_bytes = bench::parse_bucket_cap(step.bucket_cap),
          .first_bucket_cap_bytes = bench::parse_bucket_cap(step.first_bucket_cap),
          .last_bucket_cap_bytes = parse_last_cap(arguments.last_bucket_cap),
          .launch = kLaunches.at(arguments.launch),
          .levels = kLevels.at(arguments.levels),
          .compressor = std::move(compressor),
          .buffers = {.action = kBufferActions.at(arguments.buffers)}};
}

}  // namespace

void add_parallel_options(CLI::App& app, ParallelArguments& arguments) {
  app.add_option("--model-ranks", arguments.model_ranks, "ranks that share a model, on a grid")
      ->check(bench::check_positive);
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
  app.add_option("--compress", arguments.compress.method, "what is sent instead of gradients")
      ->check(CLI::IsMember(compression_methods()));
  app.add_option("--matrix-approximation-rank",
                 arguments.compress.low_rank.matrix_approximation_rank,
                 "width of the factors of acp_sgd and power_sgd")
      ->check(bench::check_positive);
}

nlohmann::json parallel_fields(const ParallelArguments& arguments) {
  return {{"model_ranks", arguments.model_ranks}, {"levels", arguments.levels},
          {"launch", arguments.launch},           {"last_bucket_cap", arguments.last_bucket_cap},
          {"update", arguments.update},           {"buffers", arguments.buffers},
          {"compress", arguments.compress.method}};
}

OptimizerOptions optimizer_options(const bench::StepArguments& step, FusedUpdate fused) {
  return {
      .method = step.optimizer, .weight_decay = step.optimizer == "sgd" ? 0 : 0.01, .fused = fused};
}

std::unique_ptr<bench::StepSync> make_parallel_sync(torch::nn::Module& module, Communicator& world,
                                                    const ProcessGrid* grid,
                                                    const bench::StepArguments& step,
                                                    const ParallelArguments& arguments) {
  const auto compressor = make_compressor(arguments.compress);
  const auto options = parallel_options(step, arguments, compressor);
  auto parallel = grid ? std::make_unique<DataParallel>(module, *grid, options)
                       : std::make_unique<DataParallel>(module, world, options);
  std::unique_ptr<Optimizer> fused;
  if (arguments.update == "fused") {
    fused =
        std::make_unique<Optimizer>(parallel->reducer(), optimizer_options(step, FusedUpdate::on));
  }
  return std::make_unique<ParallelSync>(std::move(parallel), std::move(fused), step.learning_rate,
                                        compressor, loss_of(arguments.compress.method));
}

}  // namespace isobar
