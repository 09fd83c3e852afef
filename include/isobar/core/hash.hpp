// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace isobar {

/// 2^64 over the golden ratio, the step between the states of splitmix64
/// (Steele, Lea and Flood, OOPSLA 2014): its n-th output from the state s is
/// splitmix64(s + n · kSplitmix64Step). A generator without hidden state, the same
/// on every machine.
inline constexpr std::uint64_t kSplitmix64Step = 0x9e3779b97f4a7c15;

/// The output function of splitmix64 for one of its states.
constexpr std::uint64_t splitmix64(std::uint64_t state) {
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
  state = (state ^ (state >> 27)) * 0x94d049bb133111eb;
  return state ^ (state >> 31);
}

/// The 64-bit FNV-1a hash (Fowler, Noll and Vo). For telling texts apart, not
/// against somebody who wants them to collide.
constexpr std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return hash;
}

}  // namespace isobar
