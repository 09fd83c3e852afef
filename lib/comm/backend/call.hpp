// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <bit>
#include <cstdint>
#include <string>

namespace isobar {

/// What the ranks must agree on of one collective, in 48 bytes: rank 0 compares it on the control
/// connection, the ranks of a node in their shared memory.
struct Call {
  /// Elements a rank; for all_to_all those of one row.
  int64_t count = 0;
  /// A broadcast's root, 0 otherwise.
  int32_t peer = 0;
  /// The bits of a sum's divisor as a float: on the wire there are integers.
  int32_t divisor_bits = std::bit_cast<int32_t>(1.0F);
  BucketMark mark{};
  uint8_t kind = 0;
  uint8_t reduce = 0;
  uint8_t type = 0;

  double divisor() const noexcept { return std::bit_cast<float>(divisor_bits); }

  bool operator==(const Call&) const = default;

  static void fields(auto& call, auto&& visit) {
    visit(call.count, call.peer, call.divisor_bits, call.mark.bucket, call.mark.reducer,
          call.mark.frozen, call.mark.set, call.mark.step, call.kind, call.reduce, call.type);
  }
};
static_assert(sizeof(Call) == 48);

Call call_of(const Operation& operation) noexcept;

/// False for what no call_of() makes: bytes of a stranger.
bool is_valid(const Call& call) noexcept;

/// "allreduce sum float32[1024]", as Operation::signature() says it; of an
/// all_to_all only the width of a row.
std::string signature(const Call& call);

/// "allreduce #41".
std::string name(const Call& call, int64_t sequence);

}  // namespace isobar
