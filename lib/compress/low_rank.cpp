// SPDX-License-Identifier: Apache-2.0
#include <isobar/compress/low_rank.hpp>

#include <algorithm>

namespace isobar {

bool is_compressed(int64_t rows, int64_t columns, const LowRankOptions& options) {
  const int64_t rank = std::min({options.matrix_approximation_rank, rows, columns});
  const auto factors = static_cast<double>(rank) * static_cast<double>(rows + columns);
  return rows > 1 && columns > 1 &&
         factors * options.min_compression_rate <
             static_cast<double>(rows) * static_cast<double>(columns);
}

}  // namespace isobar
