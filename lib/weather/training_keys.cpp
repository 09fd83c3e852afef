// SPDX-License-Identifier: Apache-2.0
// The sections run, comm, optimizer, train, profile, ddp and compress of an experiment file, for
// read_experiment(), which reads data, graph, model and loss between run and optimizer. Only what
// can be told without the data is checked here.
#include "weather/training_keys.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>

namespace isobar {
namespace {

constexpr Limits kShare{.least = 0, .below = 1};  // of what was before

void check_run_name(const std::string& name) {
  ISOBAR_CHECK(!name.empty() && name.find('/') == std::string::npos && name[0] != '.',
               "run.name must be a plain folder name, which has no / and begins with no dot, got '",
               name, "'; run.folder says where it lies");
}

/// float16 has five bits of exponent, so small gradients need a scale; bfloat16 has float32's
/// eight.
void read_precision(const Config& train, Experiment& e) {
  const auto precision = train.one_of("precision", {"float32", "bf16", "fp16"}, "float32");
  if (precision == "bf16") e.precision = c10::ScalarType::BFloat16;
  if (precision != "fp16") return;
  e.precision = c10::ScalarType::Half;
  e.trainer.loss_scaling.emplace();
}

void read_ddp(const Config& ddp, Experiment& e) {
  auto& reducer = e.trainer.ddp.reducer;
  auto& caps = reducer.caps;
  caps.cap_bytes = ddp.get_bytes("bucket_cap_bytes", caps.cap_bytes, at_least(1));
  caps.first_cap_bytes = ddp.get_bytes("first_bucket_cap_bytes", caps.first_cap_bytes, at_least(1));
  caps.last_cap_bytes = ddp.get_bytes("last_bucket_cap_bytes", caps.last_cap_bytes);
  const auto launch =
      ddp.one_of("launch", {"first_gradient", "counted", "at_finish"}, "first_gradient");
  reducer.launch = launch == "counted"     ? Launch::counted
                   : launch == "at_finish" ? Launch::at_finish
                                           : Launch::first_gradient;
  reducer.levels =
      ddp.one_of("levels", {"flat", "two"}, "flat") == "two" ? GridLevels::two : GridLevels::flat;
  const auto buffers = ddp.one_of("buffers", {"none", "broadcast", "compare"}, "none");
  e.trainer.ddp.buffers.action = buffers == "broadcast" ? BufferAction::broadcast
                                 : buffers == "compare" ? BufferAction::compare
                                                        : BufferAction::none;
  e.trainer.ddp.buffers.every = ddp.get<int64_t>("buffers_every", 1, at_least(1));
}

void read_profile(const Config& section, Experiment& e) {
  auto& profile = e.trainer.profile;
  e.profile_detail = section.get<bool>("detail", false);
  profile.warmup_steps = section.get<int64_t>("warmup_steps", profile.warmup_steps, at_least(0));
  profile.peak_flop_per_s = 1e12 * section.get<double>("peak_tflop_s", 0.0, at_least(0));
  if (!section.has("collectives")) return;
  profile.collectives = section.get<std::map<std::string, int64_t>>("collectives");
  for (const auto& [asker, most] : *profile.collectives) {
    ISOBAR_CHECK(most >= 0, section.origin("collectives"), ": profile.collectives: ", asker,
                 " must not be negative, got ", most);
  }
}

}  // namespace

void read_run(const Config& config, Experiment& e) {
  const auto run = config.child("run");
  e.run_name = run.get<std::string>("name");
  check_run_name(e.run_name);
  e.run_folder = run.get<std::string>("folder", "runs");
  e.seed = static_cast<uint64_t>(config.get<int64_t>("seed", 1, at_least(0)));
  e.trainer.seed = e.seed;
  e.comm.device = config.one_of("device", {"cpu", "cuda"}, "cpu");
  const auto comm = config.child("comm");
  const auto time = [&](const char* key, std::chrono::milliseconds otherwise) {
    const auto seconds =
        comm.get<double>(key, static_cast<double>(otherwise.count()) / 1000.0, {.least = 0.001});
    return std::chrono::milliseconds(static_cast<int64_t>(1000 * seconds));
  };
  e.comm.backend = comm.one_of("backend", {"auto", "nccl", "mpi", "gloo", "shm", "self"}, "auto");
  ISOBAR_CHECK(e.comm.backend != "nccl" || e.comm.device == "cuda",
               "comm.backend: nccl carries tensors of GPUs, and device is ", e.comm.device,
               "; set device: cuda, or comm.backend to auto, mpi, gloo or shm");
  e.comm.deterministic = comm.get<bool>("deterministic", false);
  e.comm.levels = comm.one_of("levels", {"auto", "flat", "node"}, "auto");
  e.comm.timeout = time("timeout_s", e.comm.timeout);
  e.comm.start_timeout = time("start_timeout_s", e.comm.start_timeout);
  e.comm.silence_limit = time("silence_limit_s", e.comm.silence_limit);
}

void read_optimizer(const Config& config, Experiment& e) {
  auto& t = e.trainer;
  const auto section = config.child("optimizer");
  e.scale_by_replicas = section.get<bool>("scale_by_replicas", false);
  t.optimizer.method = section.one_of("method", {"adamw", "sgd"}, "adamw");
  t.schedule.peak = section.get<double>("learning_rate", at_least(0));
  t.schedule.final = section.get<double>("final_learning_rate", 0.0, at_least(0));
  e.given_warmup_steps = section.get<int64_t>("warmup_steps", 0, at_least(0));
  t.optimizer.beta1 = section.get<double>("beta1", t.optimizer.beta1, kShare);
  t.optimizer.beta2 = section.get<double>("beta2", t.optimizer.beta2, kShare);
  t.optimizer.epsilon = section.get<double>("epsilon", t.optimizer.epsilon, {.above = 0});
  t.optimizer.weight_decay =
      section.get<double>("weight_decay", t.optimizer.weight_decay, at_least(0));
  t.optimizer.momentum = section.get<double>("momentum", t.optimizer.momentum, at_least(0));
  const auto fused = section.one_of("fused", {"auto", "on", "off"}, "auto");
  t.optimizer.fused = fused == "on"    ? FusedUpdate::on
                      : fused == "off" ? FusedUpdate::off
                                       : FusedUpdate::automatic;
  t.clip_norm = section.get<double>("clip_norm", 0.0, at_least(0));
  t.clip_value = section.get<double>("clip_value", 0.0, at_least(0));
  t.average_decay = section.get<double>("average_decay", 0.0, kShare);
}

void read_training(const Config& config, Experiment& e) {
  auto& t = e.trainer;
  const auto train = config.child("train");
  t.steps = train.get<int64_t>("steps", at_least(1));
  t.batch = train.get<int64_t>("batch", 1, at_least(1));
  t.accumulate = train.get<int64_t>("accumulate", 1, at_least(1));
  t.log_every = train.get<int64_t>("log_every", 10, at_least(1));
  t.validate_every = train.get<int64_t>("validate_every", 0, at_least(0));
  t.keep_checkpoints = train.get<int>("keep_checkpoints", 3, at_least(0));
  e.refit = train.get<bool>("refit", false);
  read_precision(train, e);
  t.schedule.warmup_steps = warmup_within(e.given_warmup_steps, t.steps);
  read_profile(config.child("profile"), e);
  read_ddp(config.child("ddp"), e);
}

/// A tenth of all steps, and no fewer than the learning rate warms up, is PyTorch's advice.
void read_compression(const Config& config, Experiment& e) {
  const auto section = config.child("compress");
  auto methods = compression_methods();
  methods.emplace_back(kAutoCompression);
  e.compress.method = section.one_of("method", methods, "none");
  auto& options = e.compress.low_rank;
  options.matrix_approximation_rank = section.get<int64_t>(
      "matrix_approximation_rank", options.matrix_approximation_rank, at_least(1));
  const int64_t tenth = e.trainer.steps / 10;
  const int64_t warmup = e.trainer.schedule.warmup_steps;
  e.start_step_from = section.has("start_step") ? "as given"
                      : warmup > tenth          ? "optimizer.warmup_steps"
                                                : "a tenth of train.steps";
  options.start_step = section.get<int64_t>("start_step", std::max(tenth, warmup), at_least(0));
  options.min_compression_rate =
      section.get<double>("min_compression_rate", options.min_compression_rate, {.above = 0});
  options.refresh_every = section.get<int64_t>("refresh_every", options.refresh_every, at_least(0));
  options.compare_every = section.get<int64_t>("compare_every", options.compare_every, at_least(0));
  options.seed = e.seed;
  ISOBAR_CHECK(e.compress.method == "none" || !e.trainer.loss_scaling,
               "compress.method: gradients of train.precision: fp16 are scaled, and a step that "
               "overflows left out, which a compressor's memory would not survive; use "
               "train.precision: bf16 or compress.method: none");
  auto trial = e.compress;
  if (trial.method == kAutoCompression) trial.method = "acp_sgd";
  make_compressor(trial);  // throws where they make no sense
}

}  // namespace isobar
