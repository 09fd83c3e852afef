// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace isobar {

/// A tensor's name and its hash_of().
struct NamedHash {
  std::string name;
  int64_t hash = 0;
};

/// Compares hashes, of the same names on every rank, over `group`, one of those into which
/// `world` divides by taking every k-th rank. Where they differ in any group, every rank of the
/// world throws the same UsageError: `message` of the first name that differs and "ranks 1, 2 of
/// 6 differs from that of rank 0", the first of those that most ranks agree with. What travels is
/// an allreduce of 16 bytes over `group` and one of 8 over the world unless they differ; then one
/// of 16 bytes a name besides, 8 bytes a rank, and the message.
/// Collective over the world; blocks.
void require_same_hashes(Communicator& world, Communicator& group,
                         const std::vector<NamedHash>& mine,
                         const std::function<std::string(const std::string& name,
                                                         const std::string& difference)>& message);

}  // namespace isobar
