// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace isobar::bench {

/// A collective that can be measured. In `send_receive` every rank sends to the
/// next one and receives from the one before, around a ring.
enum class Collective {
  allreduce,
  reduce_scatter,
  all_gather,
  all_to_all,
  broadcast,
  barrier,
  send_receive
};

std::string_view to_string(Collective op) noexcept;

/// Throws UsageError, with a suggestion, for a name that is none.
Collective parse_collective(std::string_view name);

/// Bus bandwidth over algorithm bandwidth (bytes over time), so that the result
/// compares with a link whatever the number of ranks; 0 for barrier, and for one
/// rank where nothing is sent. Formulas of nccl-tests, doc/PERFORMANCE.md.
double busbw_factor(Collective op, int ranks) noexcept;

/// Elements of one rank's buffers.
struct Counts {
  int64_t input = 0;
  int64_t output = 0;
};

/// What `bytes` means, as in nccl-tests: the larger of a rank's two buffers, so
/// the input of reduce_scatter and the output of all_gather. Where the ranks
/// share the buffer out, it is rounded down to equal parts of at least one
/// element.
Counts counts_of(Collective op, int64_t bytes, int64_t element_bytes, int ranks) noexcept;

/// Whether input and output are one buffer.
bool in_place(Collective op) noexcept;

/// Reads sizes: "1MiB,4MiB", or a range by powers of two "64KiB..64MiB", or by
/// another factor "64KiB..64MiBx4"; parts are joined by commas. Throws UsageError
/// for what is none of these.
std::vector<int64_t> parse_sizes(std::string_view text);

}  // namespace isobar::bench
