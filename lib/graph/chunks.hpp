// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace isobar {

/// Work is cut up by its size alone and results are put together in the order of
/// the chunks: they are the same in every bit whatever the number of threads.
inline constexpr int64_t kChunk = 2048;

constexpr int64_t chunk_count(int64_t size) { return (size + kChunk - 1) / kChunk; }

/// Calls `body(chunk, begin, end)` for every chunk of 0 to size - 1, on LibTorch's
/// threads. The first exception leaves the call.
void for_each_chunk(int64_t size, const std::function<void(int64_t, int64_t, int64_t)>& body);

/// The sum over 0 to size - 1, given `sum_of_range(begin, end)`.
double chunked_sum(int64_t size, const std::function<double(int64_t, int64_t)>& sum_of_range);

}  // namespace isobar
