// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <memory>
#include <string>

#include "comm/backend/first_cause.hpp"

namespace isobar {

/// How an allreduce goes over nodes; see CommunicatorOptions::levels.
enum class Levels { flat, node, automatic };

/// Throws UsageError for a name that is none.
Levels levels_by_name(const std::string& name);

struct LevelsOptions {
  Levels levels = Levels::automatic;
  /// node_identity() of this process.
  std::string node;
  /// Of this world alone, for naming the shared memory.
  std::string token;
  std::shared_ptr<FirstCause> cause;
};

/// `flat` with allreduces in two levels where its ranks are on several nodes, as many
/// (more than one) on each; otherwise `flat` itself. Inside a node the ranks add over
/// shared memory, each one share; the shares go over `flat`'s transport. 16-bit floats,
/// which are to be rounded once, stay flat. Collective over `flat`; blocks.
std::unique_ptr<Communicator> with_levels(std::unique_ptr<Communicator> flat,
                                          const LevelsOptions& options);

}  // namespace isobar
