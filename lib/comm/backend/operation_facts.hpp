// SPDX-License-Identifier: Apache-2.0
// What follows from an Operation, once for all transports: its kind, its bytes and rows, who has to
// combine its values, and the texts that name it.
#pragma once

#include <isobar/comm/operation.hpp>

#include <chrono>
#include <string>
#include <string_view>

namespace isobar {

/// Why a rank does not come to what the others wait for.
inline constexpr const char* kDestroyed =
    "its communicator was destroyed; did it take fewer steps than the others?";

/// A send or a receive, which is no part of the order of collectives.
bool is_message(OperationKind kind) noexcept;
inline bool is_message(const Operation& operation) noexcept { return is_message(operation.kind); }

/// An allreduce or a reduce_scatter.
bool reduces(OperationKind kind) noexcept;
inline bool reduces(const Operation& operation) noexcept { return reduces(operation.kind); }

/// What it writes, or what it reads where it writes nothing; undefined for a barrier.
const at::Tensor& values_of(const Operation& operation) noexcept;

/// Elements and bytes of an entry of dimension 0.
int64_t row_elements(const at::Tensor& tensor);
int64_t row_bytes(const at::Tensor& tensor);

/// Whether values of `type` must be combined by an owner: each element by one rank, in the order of
/// ranks. 16-bit floats always, since they are added in float32 and a ring would round them at
/// every rank; any float where the bits must not depend on the position in the buffer.
bool needs_owner(at::ScalarType type, bool deterministic) noexcept;

/// "sum", or "sum/8" of one that is divided.
std::string reduction_name(ReduceOp op, double divisor);

/// "allreduce #41 on rank 3 of 8".
std::string full_name(const Operation& operation, int rank, int size);

/// " of bucket 2, reducer 0, step 7, 1 of its parameters frozen (set 815)", as far as it is known;
/// empty for what belongs to no reducer.
std::string of_bucket(const BucketMark& mark);

/// "allreduce #41 on rank 3 of 8: no answer in 30 s (allreduce sum float32[1024])"; of a
/// bucket "... (bucket 2, float32, 1.0 MiB)".
std::string timed_out(const Operation& operation, int rank, int size);

/// "1.5 s", "250 ms".
std::string in_words(std::chrono::milliseconds time);

/// Throws UsageError if a tensor is not on the CPU.
void check_on_cpu(const Operation& operation, std::string_view backend);

}  // namespace isobar
