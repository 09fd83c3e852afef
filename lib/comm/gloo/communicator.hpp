// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "comm/backend/first_cause.hpp"
#include "comm/gloo/group.hpp"

namespace isobar {

struct GlooOptions {
  int rank = 0;
  int size = 1;
  /// This rank's numeric address, at which the others reach it.
  std::string address;
  std::shared_ptr<KeyValueStore> store;
  /// Sums in the order of ranks, whatever that costs.
  bool deterministic = false;
  std::chrono::milliseconds timeout = kDefaultTimeout;
  std::shared_ptr<FirstCause> cause;
  /// Whether long sums go in pieces, which hides latency and costs processor time;
  /// measured if not said.
  std::optional<bool> in_pieces = std::nullopt;
};

/// Ranks of a Gloo world at most. Each has a socket to each other, and rank 0 hands out the
/// addresses of all to all: four times as much where there are twice as many ranks
/// (docs/results/scale.md).
constexpr int kMostGlooRanks = 1024;

/// The Gloo world over TCP. Collective; blocks until every rank is connected with
/// every other, and has sent something to the next to see how fast the links
/// are. Throws UsageError for more ranks than kMostGlooRanks. The file no_gloo.cpp throws
/// UsageError.
std::unique_ptr<Communicator> make_gloo_communicator(const GlooOptions& options);

}  // namespace isobar
