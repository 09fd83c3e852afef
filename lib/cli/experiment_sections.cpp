// SPDX-License-Identifier: Apache-2.0
#include "cli/experiment_sections.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/data/forcings.hpp>

#include <algorithm>
#include <cctype>
#include <set>

namespace isobar {
namespace {

using Names = std::vector<std::string>;

bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

PeriodText read_period(const Config& section, const std::string& name) {
  const auto period = section.child(name);
  return {period.get<std::string>("begin"), period.get<std::string>("end")};
}

/// Which variables are seen, forecast, or both.
void read_roles(const Config& data, Experiment& e) {
  e.prognostic = data.get<Names>("variables");
  e.diagnostic = data.get<Names>("diagnostic", {});
  e.forcing_variables = data.get<Names>("forcing_variables", {});
  ISOBAR_CHECK(!e.prognostic.empty(), "data.variables names no variable");
  std::set<std::string> seen;
  for (const auto* names : {&e.prognostic, &e.diagnostic, &e.forcing_variables}) {
    for (const auto& name : *names) {
      ISOBAR_CHECK(seen.insert(name).second, "data: variable '", name,
                   "' is given twice in variables, diagnostic and forcing_variables; it has one "
                   "role");
      e.data.variables.push_back(name);
    }
  }
}

void read_forcings(const Config& data, Experiment& e) {
  e.forcings = data.get<Names>("forcings", {});
  e.input_forcings = data.get<Names>("input_forcings", e.forcings);
  check_forcings(e.forcings);
  for (const auto& name : e.input_forcings) {
    ISOBAR_CHECK(contains(e.forcings, name), "data.input_forcings: '", name,
                 "' is not one of data.forcings");
  }
}

std::vector<int64_t> lead_hours(const Config& section, const std::string& name,
                                const Experiment& e) {
  const auto leads = section.get<std::vector<int64_t>>("lead_hours", {e.step_hours});
  for (const int64_t lead : leads) {
    ISOBAR_CHECK(lead > 0 && lead % e.step_hours == 0, name, ".lead_hours: ", lead,
                 " is not a positive multiple of data.step_hours, ", e.step_hours);
  }
  ISOBAR_CHECK(!leads.empty() && std::is_sorted(leads.begin(), leads.end()), name,
               ".lead_hours must rise");
  check_reachable(name + ".lead_hours", leads.back(), e);
  return leads;
}

bool is_text(const Config& section, const std::string& key) {
  try {
    section.get<std::string>(key);
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

/// "relu", or a list of the lowest and the highest value.
Bounds read_bounds(const Config& section, const std::string& variable) {
  if (is_text(section, variable)) {
    section.one_of(variable, {"relu"});
    return {.lower = 0};
  }
  const auto ends = section.get<std::vector<double>>(variable);
  ISOBAR_CHECK(ends.size() == 2 && ends[0] < ends[1], "model.bounding.", variable,
               ": wanted relu or [lowest, highest]");
  return {ends[0], ends[1]};
}

}  // namespace

void check_reachable(const std::string& key, int64_t last_hour, const Experiment& e) {
  for (int64_t from = e.step_hours; from < last_hour; from += e.step_hours) {
    for (const int64_t input : e.input_hours) {
      const int64_t hour = from + input;
      const bool given = std::count(e.input_hours.begin(), e.input_hours.end(), hour) == 1;
      const bool forecast = hour > 0 && hour % e.step_hours == 0;
      ISOBAR_CHECK(given || forecast, key, ": the step to ", from + e.step_hours,
                   " h needs the field at hour ", hour,
                   ", which is neither an input hour nor forecast; input hours that are all "
                   "multiples of data.step_hours, without gaps, allow several steps");
    }
  }
}

void read_data(const Config& config, Experiment& e) {
  const auto data = config.child("data");
  e.data.paths = {data.get<std::string>("path")};
  read_roles(data, e);
  e.data.allow_missing = data.get<bool>("allow_missing", false);
  e.data.cache_bytes = data.get_bytes("cache_bytes", int64_t{1} << 30);
  e.normalization = data.get<std::map<std::string, std::string>>("normalization", {});
  read_forcings(data, e);
  e.input_hours = data.get<std::vector<int64_t>>("input_hours", {-6, 0});
  e.step_hours = data.get<int64_t>("step_hours", 6);
  e.train = read_period(data, "train");
  e.validation = read_period(data, "validation");
  e.test = read_period(data, "test");
  e.trainer.sampler = data.one_of("sampler", {"shared", "replicated"}, "shared") == "shared"
                          ? SamplerPolicy::shared
                          : SamplerPolicy::replicated;
  e.trainer.prefetch = data.get<int64_t>("prefetch", 2);
  ISOBAR_CHECK(!e.input_hours.empty() && e.input_hours.back() == 0,
               "data.input_hours must end with 0, the analysis");
  ISOBAR_CHECK(e.step_hours > 0, "data.step_hours must be positive, got ", e.step_hours);
}

void read_lead_hours(const Config& config, Experiment& e) {
  e.validation_lead_hours = lead_hours(config.child("validation"), "validation", e);
  e.test_lead_hours = lead_hours(config.child("test"), "test", e);
}

void read_graph(const Config& config, Experiment& e) {
  const auto graph = config.child("graph");
  e.grid = graph.get<std::string>("grid", "file");
  e.graph.hidden_grid = graph.get<std::string>("hidden_grid", "");
  if (e.graph.hidden_grid.empty()) {
    e.graph.hidden_level = graph.get<int64_t>("hidden_level");
  } else {
    e.graph.processor_neighbours =
        graph.get<int64_t>("processor_neighbours", e.graph.processor_neighbours);
  }
  e.graph.min_level = graph.get<int64_t>("min_level", e.graph.min_level);
  e.graph.margin_degrees = graph.get<double>("margin_degrees", e.graph.margin_degrees);
  e.graph.cutoff_factor = graph.get<double>("cutoff_factor", e.graph.cutoff_factor);
  e.graph.max_neighbours = graph.get<int64_t>("max_neighbours", e.graph.max_neighbours);
  e.graph.decoder_neighbours = graph.get<int64_t>("decoder_neighbours", e.graph.decoder_neighbours);
  e.partition = graph.one_of("partition", {"bands", "bisection"}, "bands");
  e.area = graph.one_of("area", {"grid", "voronoi"}, "grid");
  e.graph_cache = graph.get<std::string>("cache", "");
}

void read_model(const Config& config, Experiment& e) {
  const auto model = config.child("model");
  e.channels = model.get<int64_t>("channels");
  e.layers = model.get<int64_t>("layers");
  e.node_table = model.get<int64_t>("node_table", 8);
  e.edge_table = model.get<int64_t>("edge_table", 8);
  e.activations = model.one_of("activations", {"keep", "recompute", "auto"}, "keep");
  e.chunk_edges = model.get<int64_t>("chunk_edges", 0);
  ISOBAR_CHECK(e.chunk_edges >= 0, "model.chunk_edges must not be negative, got ", e.chunk_edges);
  e.device_memory_bytes = model.get_bytes("device_memory", 0);
  ISOBAR_CHECK(e.activations != "auto" || e.device_memory_bytes > 0,
               "model.activations: auto needs model.device_memory, such as 64GiB");
  e.model_ranks = model.get<int>("ranks", 1);
  ISOBAR_CHECK(e.model_ranks > 0, "model.ranks must be positive, got ", e.model_ranks);
  // Ranks that all share one model are asked for here, so they are no mistake.
  if (e.model_ranks > 1) e.trainer.ddp.single_replica = SingleReplica::allowed;
  const auto bounding = model.child("bounding");
  for (const auto& name : e.outputs()) {
    if (bounding.has(name)) e.bounding[name] = read_bounds(bounding, name);
  }
}

void read_loss(const Config& config, Experiment& e) {
  const auto loss = config.child("loss");
  e.variable_weights = loss.get<std::map<std::string, double>>("variable_weights", {});
  e.scale_by_tendency = loss.get<bool>("scale_by_tendency", true);
  e.mask_missing = loss.get<bool>("mask_missing", false);
  for (const auto& [name, weight] : e.variable_weights) {
    ISOBAR_CHECK(contains(e.outputs(), name), "loss.variable_weights: '", name,
                 "' is not one of data.variables and data.diagnostic; ",
                 did_you_mean(name, e.outputs()));
    ISOBAR_CHECK(weight >= 0, "loss.variable_weights.", name, " must not be negative");
  }
  if (!loss.has("level_weights")) return;
  const auto levels = loss.child("level_weights");
  e.level_weights = {levels.get<double>("slope"), levels.get<double>("minimum", 0.0)};
  ISOBAR_CHECK(e.level_weights.slope >= 0 && e.level_weights.minimum >= 0,
               "loss.level_weights: slope and minimum must not be negative, got ",
               e.level_weights.slope, " and ", e.level_weights.minimum);
}

void read_rollout(const Config& config, Experiment& e) {
  const auto train = config.child("train");
  if (!train.has("rollout")) return;
  const auto section = train.child("rollout");
  RolloutSchedule rollout;
  rollout.start = section.get<int64_t>("start", 1);
  rollout.every = section.get<int64_t>("every", 0);
  rollout.maximum = section.get<int64_t>("maximum", rollout.start);
  rollout.at(0);  // throws where they make no sense
  e.trainer.rollout = rollout;
  if (e.trainer.steps > 0) {
    check_reachable("train.rollout", e.longest_rollout() * e.step_hours, e);
  }
}

std::optional<int64_t> pressure_level(const std::string& variable) {
  const auto underscore = variable.rfind('_');
  if (underscore == std::string::npos || underscore == 0) return std::nullopt;
  const auto digits = variable.substr(underscore + 1);
  const bool number = !digits.empty() && digits.size() < 6 &&
                      std::all_of(digits.begin(), digits.end(),
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  return number ? std::optional(std::stoll(digits)) : std::nullopt;
}

}  // namespace isobar
