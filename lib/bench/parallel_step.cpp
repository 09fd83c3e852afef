// SPDX-License-Identifier: Apache-2.0
// DataParallel as a step of `isobar bench`, which bench step times and bench compression compares
// by method, on every rank: options, residuals and counters in the harness's terms, so that its
// checks see the path that users take.
#include <isobar/bench/parallel_step.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <isobar/ddp/trainable.hpp>
#include <ATen/ops/zeros.h>
#include <torch/nn/module.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace isobar::bench {
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
SyncLoss loss_of(const std::string& method) {
  if (method == "none") return {};
  if (method == "bf16") return {.of_largest = 0x1p-7};
  if (method == "fp16") return {.of_largest = 0x1p-10, .absolute = 0x1p-22};
  return {.of_largest = 0x1p-14};
}

class ParallelSync final : public StepSync {
 public:
  /// Without an optimizer the update is not a part of finish().
  ParallelSync(std::unique_ptr<DataParallel> parallel, std::unique_ptr<Optimizer> fused,
               double learning_rate, std::shared_ptr<Compressor> compressor, SyncLoss loss)
      : parallel_(std::move(parallel)),
        fused_(std::move(fused)),
        learning_rate_(learning_rate),
        compressor_(std::move(compressor)),
        loss_(loss) {}

  std::string name() const override { return "ddp"; }
  SyncLoss loss() const override { return loss_; }
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

  SyncTotals totals() const override {
    const auto& counters = parallel_->reducer().counters();
    return {.payload_bytes = counters.payload_bytes,
            .exposed_s = counters.exposed_seconds + parallel_->buffer_counters().seconds,
            .sent_bytes = counters.sent_bytes};
  }

  std::vector<SyncBucket> buckets() const override {
    std::vector<SyncBucket> found;
    for (const auto& bucket : parallel_->reducer().plan()) found.push_back(bucket.parameters);
    return found;
  }

 private:
  std::unique_ptr<DataParallel> parallel_;
  std::unique_ptr<Optimizer> fused_;
  double learning_rate_;
  std::shared_ptr<Compressor> compressor_;
  SyncLoss loss_;
};

/// What a word stands for. Throws UsageError for one that stands for nothing.
template <typename Value>
Value meaning(const char* option, const std::map<std::string, Value>& words,
              const std::string& word) {
  const auto found = words.find(word);
  if (found != words.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [name, value] : words) known.push_back(name);
  throw UsageError(detail::join("no ", option, " '", word, "'; ", did_you_mean(word, known)));
}

const std::map<std::string, GridLevels> kLevels = {{"flat", GridLevels::flat},
                                                   {"two", GridLevels::two}};
const std::map<std::string, Launch> kLaunches = {{"first_gradient", Launch::first_gradient},
                                                 {"counted", Launch::counted},
                                                 {"at_finish", Launch::at_finish}};
const std::map<std::string, FusedUpdate> kUpdates = {{"separate", FusedUpdate::off},
                                                     {"fused", FusedUpdate::on}};
const std::map<std::string, BufferAction> kBufferActions = {{"none", BufferAction::none},
                                                            {"broadcast", BufferAction::broadcast},
                                                            {"compare", BufferAction::compare}};

DataParallelOptions parallel_options(const StepArguments& step, const ParallelArguments& arguments,
                                     std::shared_ptr<Compressor> compressor) {
  return {.reducer = {.caps = {.cap_bytes = parse_bucket_cap(step.bucket_cap),
                               .first_cap_bytes = parse_bucket_cap(step.first_bucket_cap),
                               .last_cap_bytes = parse_last_cap(arguments.last_bucket_cap)},
                      .launch = meaning("launch", kLaunches, arguments.launch),
                      .levels = meaning("levels", kLevels, arguments.levels),
                      .compressor = std::move(compressor)},
          .buffers = {.action = meaning("buffers", kBufferActions, arguments.buffers)}};
}

std::function<void()> make_update(const StepArguments& common, const ParallelArguments& parallel,
                                  const torch::nn::Module& module) {
  if (common.sync == "ddp" && parallel.update == "fused") return [] {};
  const auto optimizer =
      std::make_shared<Optimizer>(trainable(module), optimizer_options(common, FusedUpdate::off));
  return [optimizer, rate = common.learning_rate] { optimizer->step(rate); };
}

}  // namespace

int64_t parse_last_cap(const std::string& text) {
  return text == "none" ? 0 : parse_bucket_cap(text);
}

nlohmann::json parallel_fields(const ParallelArguments& arguments) {
  return {{"model_ranks", arguments.model_ranks}, {"levels", arguments.levels},
          {"launch", arguments.launch},           {"last_bucket_cap", arguments.last_bucket_cap},
          {"update", arguments.update},           {"buffers", arguments.buffers},
          {"compress", arguments.compress.method}};
}

OptimizerOptions optimizer_options(const StepArguments& step, FusedUpdate fused) {
  return {
      .method = step.optimizer, .weight_decay = step.optimizer == "sgd" ? 0 : 0.01, .fused = fused};
}

std::unique_ptr<StepSync> make_parallel_sync(torch::nn::Module& module, Communicator& world,
                                             const ProcessGrid* grid, const StepArguments& step,
                                             const ParallelArguments& arguments) {
  const auto update = meaning("update", kUpdates, arguments.update);
  const auto compressor = make_compressor(arguments.compress);
  const auto options = parallel_options(step, arguments, compressor);
  auto parallel = grid ? std::make_unique<DataParallel>(module, *grid, options)
                       : std::make_unique<DataParallel>(module, world, options);
  std::unique_ptr<Optimizer> fused;
  if (update == FusedUpdate::on) {
    fused = std::make_unique<Optimizer>(parallel->reducer(), optimizer_options(step, update));
  }
  return std::make_unique<ParallelSync>(std::move(parallel), std::move(fused), step.learning_rate,
                                        compressor, loss_of(arguments.compress.method));
}

StepCase make_step_case(const StepArguments& common, const ParallelArguments& parallel,
                        MakeWorkload make_workload, Communicator& comm, const ProcessGrid* grid) {
  return {.make_workload = std::move(make_workload),
          .make_sync = [common, parallel, &comm,
                        grid](torch::nn::Module& module) -> std::unique_ptr<StepSync> {
            if (common.sync == "none") return make_no_sync(module);
            return make_parallel_sync(module, comm, grid, common, parallel);
          },
          .make_optimizer =
              [common, parallel](torch::nn::Module& module) {
                return make_update(common, parallel, module);
              }};
}

}  // namespace isobar::bench
