// SPDX-License-Identifier: Apache-2.0
#include "cli/experiment.hpp"

#include <isobar/core/error.hpp>
#include <isobar/data/forcings.hpp>

#include <algorithm>

namespace isobar {
namespace {

PeriodText read_period(const Config& section, const std::string& name) {
  const auto period = section.child(name);
  return {period.get<std::string>("begin"), period.get<std::string>("end")};
}

void read_run(const Config& config, Experiment& e) {
  const auto run = config.child("run");
  e.run_name = run.get<std::string>("name");
  e.run_folder = run.get<std::string>("folder", "runs");
  e.seed = static_cast<uint64_t>(config.get<int64_t>("seed", 1));
  e.trainer.seed = e.seed;
  e.comm.device = config.one_of("device", {"cpu", "cuda"}, "cpu");
  const auto comm = config.child("comm");
  const auto time = [&](const char* key, std::chrono::milliseconds otherwise) {
    const auto seconds = comm.get<double>(key, static_cast<double>(otherwise.count()) / 1000.0);
    return std::chrono::milliseconds(static_cast<int64_t>(1000 * seconds));
  };
  e.comm.backend = comm.one_of("backend", {"auto", "nccl", "mpi", "gloo", "shm", "self"}, "auto");
  e.comm.deterministic = comm.get<bool>("deterministic", false);
  e.comm.levels = comm.one_of("levels", {"auto", "flat", "node"}, "auto");
  e.comm.timeout = time("timeout_s", e.comm.timeout);
  e.comm.start_timeout = time("start_timeout_s", e.comm.start_timeout);
  e.comm.silence_limit = time("silence_limit_s", e.comm.silence_limit);
}

void read_data(const Config& config, Experiment& e) {
  const auto data = config.child("data");
  e.data.paths = {data.get<std::string>("path")};
  e.data.variables = data.get<std::vector<std::string>>("variables");
  e.data.cache_bytes = data.get_bytes("cache_bytes", int64_t{1} << 30);
  e.normalization = data.get<std::map<std::string, std::string>>("normalization", {});
  e.forcings = data.get<std::vector<std::string>>("forcings", {});
  e.input_forcings = data.get<std::vector<std::string>>("input_forcings", e.forcings);
  e.input_hours = data.get<std::vector<int64_t>>("input_hours", {-6, 0});
  e.step_hours = data.get<int64_t>("step_hours", 6);
  e.train = read_period(data, "train");
  e.validation = read_period(data, "validation");
  e.test = read_period(data, "test");
  e.trainer.sampler = data.one_of("sampler", {"shared", "replicated"}, "shared") == "shared"
                          ? SamplerPolicy::shared
                          : SamplerPolicy::replicated;
  e.trainer.prefetch = data.get<int64_t>("prefetch", 2);

  check_forcings(e.forcings);
  for (const auto& name : e.input_forcings) {
    ISOBAR_CHECK(std::count(e.forcings.begin(), e.forcings.end(), name) == 1,
                 "data.input_forcings: '", name, "' is not one of data.forcings");
  }
  ISOBAR_CHECK(!e.input_hours.empty() && e.input_hours.back() == 0,
               "data.input_hours must end with 0, the analysis");
  ISOBAR_CHECK(e.step_hours > 0, "data.step_hours must be positive, got ", e.step_hours);
}

/// Lead times are multiples of the step; a forecast of several steps needs, at each step, fields
/// that it was given or has made itself.
std::vector<int64_t> read_lead_hours(const Config& section, const std::string& name,
                                     const Experiment& e) {
  const auto leads = section.get<std::vector<int64_t>>("lead_hours", {e.step_hours});
  for (const int64_t lead : leads) {
    ISOBAR_CHECK(lead > 0 && lead % e.step_hours == 0, name, ".lead_hours: ", lead,
                 " is not a positive multiple of data.step_hours, ", e.step_hours);
  }
  ISOBAR_CHECK(!leads.empty() && std::is_sorted(leads.begin(), leads.end()), name,
               ".lead_hours must rise");
  for (int64_t from = e.step_hours; from < leads.back(); from += e.step_hours) {
    for (const int64_t input : e.input_hours) {
      const int64_t hour = from + input;
      const bool given = std::count(e.input_hours.begin(), e.input_hours.end(), hour) == 1;
      const bool forecast = hour > 0 && hour % e.step_hours == 0;
      ISOBAR_CHECK(given || forecast, name, ".lead_hours: the step to ", from + e.step_hours,
                   " h needs the field at hour ", hour,
                   ", which is neither an input hour nor forecast; input hours that are all "
                   "multiples of data.step_hours, without gaps, allow several steps");
    }
  }
  return leads;
}

void read_graph(const Config& config, Experiment& e) {
  const auto graph = config.child("graph");
  e.grid = graph.get<std::string>("grid", "file");
  e.graph.hidden_level = graph.get<int64_t>("hidden_level");
  e.graph.min_level = graph.get<int64_t>("min_level", e.graph.min_level);
  e.graph.margin_degrees = graph.get<double>("margin_degrees", e.graph.margin_degrees);
  e.graph.cutoff_factor = graph.get<double>("cutoff_factor", e.graph.cutoff_factor);
  e.graph.max_neighbours = graph.get<int64_t>("max_neighbours", e.graph.max_neighbours);
  e.graph.decoder_neighbours = graph.get<int64_t>("decoder_neighbours", e.graph.decoder_neighbours);
}

void read_model(const Config& config, Experiment& e) {
  const auto model = config.child("model");
  e.channels = model.get<int64_t>("channels");
  e.layers = model.get<int64_t>("layers");
  e.node_table = model.get<int64_t>("node_table", 8);
  e.edge_table = model.get<int64_t>("edge_table", 8);
  const auto loss = config.child("loss");
  e.variable_weights = loss.get<std::map<std::string, double>>("variable_weights", {});
  e.scale_by_tendency = loss.get<bool>("scale_by_tendency", true);
  for (const auto& [name, weight] : e.variable_weights) {
    ISOBAR_CHECK(std::count(e.data.variables.begin(), e.data.variables.end(), name) == 1,
                 "loss.variable_weights: '", name, "' is not one of data.variables");
    ISOBAR_CHECK(weight >= 0, "loss.variable_weights.", name, " must not be negative");
  }
}

void read_optimizer(const Config& config, TrainerOptions& t) {
  const auto section = config.child("optimizer");
  t.optimizer.method = section.one_of("method", {"adamw", "sgd"}, "adamw");
  t.schedule.peak = section.get<double>("learning_rate");
  t.schedule.final = section.get<double>("final_learning_rate", 0.0);
  t.schedule.warmup_steps = section.get<int64_t>("warmup_steps", 0);
  t.optimizer.beta1 = section.get<double>("beta1", t.optimizer.beta1);
  t.optimizer.beta2 = section.get<double>("beta2", t.optimizer.beta2);
  t.optimizer.epsilon = section.get<double>("epsilon", t.optimizer.epsilon);
  t.optimizer.weight_decay = section.get<double>("weight_decay", t.optimizer.weight_decay);
  t.optimizer.momentum = section.get<double>("momentum", t.optimizer.momentum);
  const auto fused = section.one_of("fused", {"auto", "on", "off"}, "auto");
  t.optimizer.fused = fused == "on"    ? FusedUpdate::on
                      : fused == "off" ? FusedUpdate::off
                                       : FusedUpdate::automatic;
  t.clip_norm = section.get<double>("clip_norm", 0.0);
  t.clip_value = section.get<double>("clip_value", 0.0);
  t.average_decay = section.get<double>("average_decay", 0.0);
}

void read_training(const Config& config, TrainerOptions& t) {
  const auto train = config.child("train");
  t.steps = train.get<int64_t>("steps");
  t.batch = train.get<int64_t>("batch", 1);
  t.accumulate = train.get<int64_t>("accumulate", 1);
  t.log_every = train.get<int64_t>("log_every", 10);
  t.validate_every = train.get<int64_t>("validate_every", 0);
  t.keep_checkpoints = train.get<int>("keep_checkpoints", 3);
  const auto ddp = config.child("ddp");
  t.ddp.bucket_cap_bytes = ddp.get_bytes("bucket_cap_bytes", t.ddp.bucket_cap_bytes);
  t.ddp.first_bucket_cap_bytes =
      ddp.get_bytes("first_bucket_cap_bytes", t.ddp.first_bucket_cap_bytes);
  t.ddp.last_bucket_cap_bytes = ddp.get_bytes("last_bucket_cap_bytes", t.ddp.last_bucket_cap_bytes);
  const auto buffers = ddp.one_of("buffers", {"none", "broadcast", "compare"}, "none");
  t.ddp.buffers.action = buffers == "broadcast" ? BufferAction::broadcast
                         : buffers == "compare" ? BufferAction::compare
                                                : BufferAction::none;
  t.ddp.buffers.every = ddp.get<int64_t>("buffers_every", 1);
}

/// A tenth of all steps, and no fewer than the learning rate warms up, is PyTorch's advice.
void read_compression(const Config& config, Experiment& e) {
  const auto section = config.child("compress");
  auto methods = compression_methods();
  methods.emplace_back(kAutoCompression);
  e.compress.method = section.one_of("method", methods, "none");
  auto& options = e.compress.low_rank;
  options.matrix_approximation_rank =
      section.get<int64_t>("matrix_approximation_rank", options.matrix_approximation_rank);
  const int64_t tenth = e.trainer.steps / 10;
  const int64_t warmup = e.trainer.schedule.warmup_steps;
  e.start_step_from = section.has("start_step") ? "as given"
                      : warmup > tenth          ? "optimizer.warmup_steps"
                                                : "a tenth of train.steps";
  options.start_step = section.get<int64_t>("start_step", std::max(tenth, warmup));
  options.min_compression_rate =
      section.get<double>("min_compression_rate", options.min_compression_rate);
  options.refresh_every = section.get<int64_t>("refresh_every", options.refresh_every);
  options.compare_every = section.get<int64_t>("compare_every", options.compare_every);
  options.seed = e.seed;
  auto trial = e.compress;
  if (trial.method == kAutoCompression) trial.method = "acp_sgd";
  make_compressor(trial);  // throws where they make no sense
}

}  // namespace

Experiment read_experiment(const Config& config) {
  Experiment e;
  read_run(config, e);
  read_data(config, e);
  e.validation_lead_hours = read_lead_hours(config.child("validation"), "validation", e);
  e.test_lead_hours = read_lead_hours(config.child("test"), "test", e);
  read_graph(config, e);
  read_model(config, e);
  read_optimizer(config, e.trainer);
  read_training(config, e.trainer);
  read_compression(config, e);
  e.refit = config.child("train").get<bool>("refit", false);
  config.finish();
  e.lines = config.flatten();
  e.yaml = config.yaml();
  return e;
}

}  // namespace isobar
