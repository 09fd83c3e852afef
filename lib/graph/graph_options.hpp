// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/weather_graph.hpp>
#include <nlohmann/json.hpp>

namespace isobar {

/// All options by name.
inline nlohmann::json to_json(const GraphOptions& options) {
  return {{"hidden_level", options.hidden_level},
          {"min_level", options.min_level},
          {"hidden_grid", options.hidden_grid},
          {"processor_neighbours", options.processor_neighbours},
          {"margin_degrees", options.margin_degrees},
          {"cutoff_factor", options.cutoff_factor},
          {"max_neighbours", options.max_neighbours},
          {"decoder_neighbours", options.decoder_neighbours}};
}

/// The counterpart; throws nlohmann's exception where one is missing.
inline GraphOptions options_from(const nlohmann::json& json) {
  return {.hidden_level = json.at("hidden_level"),
          .min_level = json.at("min_level"),
          .hidden_grid = json.at("hidden_grid"),
          .processor_neighbours = json.at("processor_neighbours"),
          .margin_degrees = json.at("margin_degrees"),
          .cutoff_factor = json.at("cutoff_factor"),
          .max_neighbours = json.at("max_neighbours"),
          .decoder_neighbours = json.at("decoder_neighbours")};
}

}  // namespace isobar
