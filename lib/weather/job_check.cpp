// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/job_check.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/weather/network_plan.hpp>
#include <isobar/weather/weather_data.hpp>
#include <fmt/format.h>

#include <filesystem>

namespace isobar {
namespace {

void check_job_ranks(const Experiment& experiment, const JobResources& resources) {
  const int ranks = resources.nodes * resources.ranks_per_node;
  ISOBAR_CHECK(ranks % experiment.model_ranks == 0, "job: model.ranks: ", ranks, " ranks (",
               resources.nodes, " nodes of ", resources.ranks_per_node,
               ") do not divide into models of ", experiment.model_ranks,
               "; change the nodes or --ranks-per-node, or set model.ranks=1");
}

void check_job_device(const Experiment& experiment, const JobResources& resources) {
  ISOBAR_CHECK(experiment.comm.device == "cpu" || resources.node_gpus > 0,
               "job: device: ", experiment.comm.device, ", and the nodes of ", resources.machine,
               " have no GPUs; set device=cpu, or name another machine by --cluster");
  ISOBAR_CHECK(experiment.comm.device == "cpu" || resources.program_has_gpus,
               "job: device: ", experiment.comm.device,
               ", and this program was built without GPUs; set device=cpu, "
               "or submit with one that was built with ISOBAR_GPU");
}

/// The nodes' ranks can have one world only over a network.
void check_job_backend(const Experiment& experiment, const JobResources& resources) {
  const auto& backend = experiment.comm.backend;
  ISOBAR_CHECK(backend != "shm" || resources.nodes == 1,
               "job: comm.backend: shm reaches the ranks "
               "of one node, and there are ",
               resources.nodes, "; set comm.backend=auto");
  ISOBAR_CHECK(backend != "self" || resources.nodes * resources.ranks_per_node == 1,
               "job: comm.backend: self is one rank alone, and there are ",
               resources.nodes * resources.ranks_per_node, "; set comm.backend=auto");
}

/// What is wrong with the data is seen before the job waits for hours: only their coordinates are
/// read.
void check_job_data(const Experiment& experiment) {
  for (const auto& path : experiment.data.paths) {
    std::error_code none;
    ISOBAR_CHECK(std::filesystem::exists(path, none), "job: data.path: '", path,
                 "' is not there, seen from ", std::filesystem::current_path(none).string(),
                 ", in which the job will run; correct it, or start this from its folder");
  }
  check_periods(experiment, Dataset(experiment.data));
}

/// Training that does not come to its end is worth something if a checkpoint was saved by then.
std::vector<std::string> check_job_time(const Experiment& experiment,
                                        const JobResources& resources) {
  const double job_s = 60.0 * static_cast<double>(resources.minutes);
  const double step_s = resources.step_seconds;
  const auto steps = experiment.trainer.steps, every = experiment.trainer.validate_every;
  const double train_s = step_s * static_cast<double>(steps);
  if (job_s == 0 || step_s == 0) return {};
  if (train_s > job_s) {
    const auto made = static_cast<int64_t>(job_s / step_s);
    const auto text = fmt::format("{} steps of {:g} s take {}, more than the {} of the job", steps,
                                  step_s, format_duration(train_s), format_duration(job_s));
    ISOBAR_CHECK(made >= 2, "job: ", text, ", in which not two are made; give it more --time");
    ISOBAR_CHECK(every > 0 && every <= made, "job: ", text,
                 ", and no checkpoint would be saved in it: train.validate_every is ", every,
                 every == 0 ? ", one at the end" : "", "; set train.validate_every=", made / 2,
                 " or less, or give it more --time");
    return {text + fmt::format(": it ends near step {}, and the checkpoint of step {} stays", made,
                               made / every * every)};
  }
  if (!experiment.refit || 2 * train_s <= job_s) return {};
  return {fmt::format("train.refit trains twice, up to {}, more than the {} of the job",
                      format_duration(2 * train_s), format_duration(job_s))};
}

/// Of the rank of a model that needs most, in its longest forecast.
int64_t planned_peak(Experiment experiment, int64_t memory_bytes) {
  if (experiment.device_memory_bytes == 0) experiment.device_memory_bytes = memory_bytes;
  const auto ranks = model_sizes(experiment, make_graph(experiment));
  const bool is_chosen = experiment.activations == "auto";
  const auto steps = plan_steps(experiment, ranks, is_chosen ? experiment.device_memory_bytes : 0);
  return steps.back().memory.peak_bytes;
}

void check_job_memory(const Experiment& experiment, const JobResources& resources) {
  const bool on_gpu = experiment.comm.device != "cpu";
  const auto memory =
      on_gpu ? resources.gpu_memory_bytes : resources.node_memory_bytes / resources.ranks_per_node;
  if (memory == 0) return;
  const auto peak = planned_peak(experiment, memory);
  ISOBAR_CHECK(peak <= memory, "job: a training step is predicted to take ", format_bytes(peak),
               " on a rank, and on ", resources.machine, " one has ", format_bytes(memory),
               on_gpu ? " of a GPU" : " of a node", "; take more model.ranks (now ",
               experiment.model_ranks, "), model.activations=recompute, fewer model.channels",
               on_gpu ? "" : " or fewer --ranks-per-node", " (isobar plan shows what takes it)");
}

}  // namespace

std::vector<std::string> check_job(const Experiment& experiment, const JobResources& resources) {
  check_job_ranks(experiment, resources);
  check_job_device(experiment, resources);
  check_job_backend(experiment, resources);
  check_job_data(experiment);
  auto warnings = check_job_time(experiment, resources);
  if (experiment.comm.device == "cpu" && resources.node_gpus > 0) {
    warnings.push_back(
        fmt::format("device: cpu, and the job reserves the {} GPUs of each node, "
                    "which it does not use; set device=cuda",
                    resources.node_gpus));
  }
  check_job_memory(experiment, resources);
  return warnings;
}

}  // namespace isobar
