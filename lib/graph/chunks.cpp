// SPDX-License-Identifier: Apache-2.0
#include "graph/chunks.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace isobar {

void for_each_chunk(int64_t size, const std::function<void(int64_t, int64_t, int64_t)>& body) {
  at::parallel_for(0, chunk_count(size), 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      body(chunk, chunk * kChunk, std::min(size, (chunk + 1) * kChunk));
    }
  });
}

double chunked_sum(int64_t size, const std::function<double(int64_t, int64_t)>& sum_of_range) {
  std::vector<double> sums(chunk_count(size));
  for_each_chunk(size, [&](int64_t chunk, int64_t begin, int64_t end) {
    sums[chunk] = sum_of_range(begin, end);
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace isobar
