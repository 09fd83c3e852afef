// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bench/harness/arguments.hpp"
#include "bench/harness/subject.hpp"

namespace isobar::bench {

/// Measures every size that `arguments` ask for; rank 0 prints a table, or the
/// report on standard output in its place, and says on standard error how far it
/// has come. Tensors are on `device`. Collective; blocks. Returns the exit code:
/// 0 if every result was right.
int run_bench(Subject& subject, const Arguments& arguments, const at::Device& device = at::kCPU);

}  // namespace isobar::bench
