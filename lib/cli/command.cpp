// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <algorithm>
#include <utility>

namespace isobar {
namespace {

/// Made by the first that is registered, since files are initialised in no order.
std::vector<Command>& all() {
  static std::vector<Command> commands;
  return commands;
}

}  // namespace

RegisteredCommand::RegisteredCommand(Command command) { all().push_back(std::move(command)); }

std::vector<Command> registered_commands() {
  auto commands = all();
  std::stable_sort(commands.begin(), commands.end(),
                   [](const Command& a, const Command& b) { return a.place < b.place; });
  return commands;
}

}  // namespace isobar
