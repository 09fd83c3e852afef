// SPDX-License-Identifier: Apache-2.0
// The sections data, graph, model, loss and train.rollout of an experiment file, for
// read_experiment(), which has read `run` before and reads the training settings between loss and
// rollout. Only what can be told without the data is checked here.
#include "weather/forecast_keys.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/data/forcings.hpp>

#include <algorithm>
#include <cctype>
#include <functional>
#include <set>

namespace isobar {
namespace {

using Names = std::vector<std::string>;

bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

PeriodText read_period(const Config& section, const std::string& name) {
  const auto period = section.child(name);
  return {"data." + name, period.get<std::string>("begin"), period.get<std::string>("end")};
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

void read_normalization(const Config& data, Experiment& e) {
  e.normalization = data.get<std::map<std::string, std::string>>("normalization", {});
  const auto section = data.child("normalization");
  for (const auto& [name, method] : e.normalization) {
    ISOBAR_CHECK(contains(e.data.variables, name), "data.normalization: '", name,
                 "' is not one of the variables; ", did_you_mean(name, e.data.variables));
    section.one_of(name, {"mean_std", "std", "max", "min_max", "none"});
  }
}

/// The names under a key, each once and one of `known`.
Names read_names(const Config& data, const std::string& key, const Names& otherwise,
                 const Names& known, const std::string& known_keys) {
  const auto names = data.get<Names>(key, otherwise);
  for (const auto& name : names) {
    ISOBAR_CHECK(contains(known, name), "data.", key, ": '", name, "' is not one of ", known_keys,
                 "; ", did_you_mean(name, known));
    ISOBAR_CHECK(std::count(names.begin(), names.end(), name) == 1, "data.", key, ": '", name,
                 "' is given twice");
  }
  return names;
}

using Hours = std::vector<int64_t>;

bool contains(const Hours& hours, int64_t hour) {
  return std::find(hours.begin(), hours.end(), hour) != hours.end();
}

/// The hours of `name` in data.seen_hours, if it is there.
std::optional<Hours> read_seen_hours(const Config& section, const std::string& name,
                                     const Experiment& e) {
  if (!section.has(name)) return std::nullopt;
  const auto key = "data.seen_hours." + name;
  const auto hours = section.get<Hours>(name);
  ISOBAR_CHECK(!contains(e.diagnostic, name), key, ": a diagnostic variable is forecast, not seen");
  ISOBAR_CHECK(
      !hours.empty(), key, " names no hour; take it out of ",
      contains(e.prognostic, name) ? "data.variables, or make it diagnostic" : "the forcings");
  ISOBAR_CHECK(
      std::adjacent_find(hours.begin(), hours.end(), std::greater_equal<>()) == hours.end(), key,
      ": hours must rise");
  for (const int64_t hour : hours) {
    ISOBAR_CHECK(hour != e.step_hours || !contains(e.prognostic, name), key, ": hour ", hour,
                 " is the one that is forecast; a variable is seen at data.input_hours alone");
    ISOBAR_CHECK(hour == e.step_hours || contains(e.input_hours, hour), key, ": hour ", hour,
                 " is neither one of data.input_hours nor the target's, ", e.step_hours);
  }
  return hours;
}

/// The forcings, computed ones before variables, and those that are seen at the input hours and at
/// the target hour where data.seen_hours says nothing.
struct Forcings {
  Names all, inputs, targets;
};

Forcings read_forcings(const Config& data, const Experiment& e) {
  for (const auto& name : e.forcings) {
    ISOBAR_CHECK(!contains(e.data.variables, name), "data.forcings: '", name,
                 "' is a variable of the data, too; it is read or computed");
  }
  Forcings f{e.forcings, {}, {}};
  f.all.insert(f.all.end(), e.forcing_variables.begin(), e.forcing_variables.end());
  f.inputs = read_names(data, "input_forcings", e.forcings, e.forcings, "data.forcings");
  f.inputs.insert(f.inputs.end(), e.forcing_variables.begin(), e.forcing_variables.end());
  f.targets = read_names(data, "target_forcings", e.forcings, f.all,
                         "data.forcings and data.forcing_variables");
  return f;
}

/// When the network sees each variable and forcing.
std::map<std::string, Hours> read_hours(const Config& section, const Forcings& forcings,
                                        const Experiment& e) {
  std::map<std::string, Hours> hours;
  for (const auto& name : e.diagnostic) read_seen_hours(section, name, e);
  for (const auto& name : e.prognostic) {
    hours[name] = read_seen_hours(section, name, e).value_or(e.input_hours);
  }
  for (const auto& name : forcings.all) {
    Hours listed;
    if (contains(forcings.inputs, name)) listed = e.input_hours;
    if (contains(forcings.targets, name)) listed.push_back(e.step_hours);
    hours[name] = read_seen_hours(section, name, e).value_or(listed);
    ISOBAR_CHECK(!hours[name].empty(), "data.forcings: '", name,
                 "' is seen at no hour; name it in data.input_forcings, data.target_forcings or "
                 "data.seen_hours, or take it out");
  }
  return hours;
}

/// The columns of the network's input. Their order is that of the weights of its first layer, which
/// checkpoints rely on: as data.input_forcings and data.target_forcings have it, before what only
/// data.seen_hours names.
void read_seen(const Config& data, Experiment& e) {
  const auto forcings = read_forcings(data, e);
  const auto hours = read_hours(data.child("seen_hours"), forcings, e);
  auto all_hours = e.input_hours;
  all_hours.push_back(e.step_hours);
  for (const int64_t hour : all_hours) {
    auto& seen = e.seen.emplace_back(SeenHour{hour, {}, {}});
    const auto add = [&](const std::string& name, const Names& all, Hours& columns) {
      if (!contains(hours.at(name), hour)) return;
      columns.push_back(std::find(all.begin(), all.end(), name) - all.begin());
    };
    for (const auto& name : e.prognostic) add(name, e.prognostic, seen.variables);
    const auto& first = hour == e.step_hours ? forcings.targets : forcings.inputs;
    for (const auto& name : first) add(name, forcings.all, seen.forcings);
    for (const auto& name : forcings.all) {
      if (!contains(first, name)) add(name, forcings.all, seen.forcings);
    }
  }
}

Hours lead_hours(const Config& section, const std::string& name, const Experiment& e) {
  const auto leads = section.get<Hours>("lead_hours", {e.step_hours});
  for (const int64_t lead : leads) {
    ISOBAR_CHECK(lead > 0 && lead % e.step_hours == 0, name, ".lead_hours: ", lead,
                 " is not a positive multiple of data.step_hours, ", e.step_hours);
  }
  ISOBAR_CHECK(!leads.empty(), name,
               ".lead_hours names no lead time; leave the key out for one step, ", e.step_hours,
               " h, or name what is to be scored");
  for (size_t i = 1; i < leads.size(); ++i) {
    ISOBAR_CHECK(leads[i] != leads[i - 1], name, ".lead_hours names ", leads[i], " twice");
    ISOBAR_CHECK(leads[i] > leads[i - 1], name, ".lead_hours must rise, got ", leads[i], " after ",
                 leads[i - 1]);
  }
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

/// A list is refused, since of levels it would be taken for several variables.
std::map<std::string, std::string> read_select(const Config& data) {
  try {
    return data.get<std::map<std::string, std::string>>("select", {});
  } catch (const UsageError& error) {
    throw UsageError(
        std::string(error.what()) +
        "; of a dimension one value is read, such as {pressure_level: 850}. Several "
        "are one text, {expver: \"1,5\"}: of each value the first that is not missing");
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
  e.data.time = data.get<std::string>("time", "");
  e.data.latitude = data.get<std::string>("latitude", "");
  e.data.longitude = data.get<std::string>("longitude", "");
  e.data.select = read_select(data);
  e.data.allow_missing = data.get<bool>("allow_missing", false);
  e.data.cache_bytes = data.get_bytes("cache_bytes", int64_t{1} << 30);
  read_normalization(data, e);
  e.forcings = read_names(data, "forcings", {}, forcing_names(), "those that can be computed");
  e.input_hours = data.get<std::vector<int64_t>>("input_hours", {-6, 0});
  e.step_hours = data.get<int64_t>("step_hours", 6, at_least(1));
  e.train = read_period(data, "train");
  e.validation = read_period(data, "validation");
  e.test = read_period(data, "test");
  e.trainer.sampler = data.one_of("sampler", {"shared", "replicated"}, "shared") == "shared"
                          ? SamplerPolicy::shared
                          : SamplerPolicy::replicated;
  e.trainer.prefetch = data.get<int64_t>("prefetch", 2, at_least(1));
  ISOBAR_CHECK(!e.input_hours.empty() && e.input_hours.back() == 0 &&
                   std::adjacent_find(e.input_hours.begin(), e.input_hours.end(),
                                      std::greater_equal<>()) == e.input_hours.end(),
               "data.input_hours must rise and end with 0, the analysis");
  read_seen(data, e);
}

void read_lead_hours(const Config& config, Experiment& e) {
  e.validation_lead_hours = lead_hours(config.child("validation"), "validation", e);
  e.test_lead_hours = lead_hours(config.child("test"), "test", e);
}

void read_graph(const Config& config, Experiment& e) {
  const auto graph = config.child("graph");
  e.grid = graph.get<std::string>("grid", "file");
  e.graph.hidden_grid = graph.get<std::string>("hidden_grid", "");
  const bool named = !e.graph.hidden_grid.empty();
  ISOBAR_CHECK(!named || !graph.has("hidden_level"), "graph.hidden_level: the hidden mesh is ",
               e.graph.hidden_grid, " (graph.hidden_grid) or an icosphere of a level, not both; ",
               "leave one of them out (on the command line graph.hidden_level= does)");
  ISOBAR_CHECK(named || !graph.has("processor_neighbours"),
               "graph.processor_neighbours is of a graph.hidden_grid, and there is none: an "
               "icosphere has edges of its own; leave it out, or name a hidden_grid");
  if (!named) {
    e.graph.hidden_level = graph.get<int64_t>("hidden_level", {.least = 0, .most = 10});
  } else {
    e.graph.processor_neighbours =
        graph.get<int64_t>("processor_neighbours", e.graph.processor_neighbours, at_least(1));
  }
  const auto finest = static_cast<double>(e.graph.hidden_level);
  e.graph.min_level = graph.get<int64_t>(
      "min_level", std::min(e.graph.min_level, e.graph.hidden_level), {.least = 0, .most = finest});
  e.graph.margin_degrees =
      graph.get<double>("margin_degrees", e.graph.margin_degrees, {.least = 0, .most = 180});
  e.graph.cutoff_factor = graph.get<double>("cutoff_factor", e.graph.cutoff_factor, {.above = 0});
  e.graph.max_neighbours =
      graph.get<int64_t>("max_neighbours", e.graph.max_neighbours, at_least(1));
  e.graph.decoder_neighbours =
      graph.get<int64_t>("decoder_neighbours", e.graph.decoder_neighbours, at_least(1));
  e.partition = graph.one_of("partition", {"bands", "bisection"}, "bands");
  e.area = graph.one_of("area", {"grid", "voronoi"}, "grid");
  e.graph_cache = graph.get<std::string>("cache", "");
}

void read_model(const Config& config, Experiment& e) {
  const auto model = config.child("model");
  e.channels = model.get<int64_t>("channels", at_least(1));
  e.layers = model.get<int64_t>("layers", at_least(1));
  e.node_table = model.get<int64_t>("node_table", 8, at_least(0));
  e.edge_table = model.get<int64_t>("edge_table", 8, at_least(0));
  e.activations = model.one_of("activations", {"keep", "recompute", "auto"}, "keep");
  e.chunk_edges = model.get<int64_t>("chunk_edges", 0, at_least(0));
  e.device_memory_bytes = model.get_bytes("device_memory", 0);
  ISOBAR_CHECK(e.activations != "auto" || e.device_memory_bytes > 0,
               "model.activations: auto needs model.device_memory, such as 64GiB");
  e.model_ranks = model.get<int>("ranks", 1, at_least(1));
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
  if (loss.has("level_weights")) {
    const auto levels = loss.child("level_weights");
    e.level_weights = {levels.get<double>("slope", at_least(0)),
                       levels.get<double>("minimum", 0.0, at_least(0))};
  }
  const auto outputs = e.outputs();
  ISOBAR_CHECK(std::any_of(outputs.begin(), outputs.end(),
                           [&](const std::string& name) { return e.weight_of(name) > 0; }),
               "loss.variable_weights (and loss.level_weights): every variable that is forecast (",
               join_words(outputs), ") weighs 0, so there is nothing to learn");
}

void read_rollout(const Config& config, Experiment& e) {
  const auto train = config.child("train");
  if (!train.has("rollout")) return;
  const auto section = train.child("rollout");
  RolloutSchedule rollout;
  rollout.start = section.get<int64_t>("start", 1, at_least(1));
  rollout.every = section.get<int64_t>("every", 0, at_least(0));
  const auto start = static_cast<double>(rollout.start);
  rollout.maximum = section.get<int64_t>("maximum", rollout.start, at_least(start));
  e.trainer.rollout = rollout;
  check_reachable("train.rollout", e.longest_rollout() * e.step_hours, e);
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
