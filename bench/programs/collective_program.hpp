// SPDX-License-Identifier: Apache-2.0
// What `isobar bench collective` and the programs of bench/ that measure collectives have in
// common.
#pragma once

#include <isobar/bench/collective_rows.hpp>

namespace CLI {
class App;
}

namespace isobar {

/// Adds the options, each with its check; `arguments` must outlive the parsing.
void add_collective_options(CLI::App& app, bench::CollectiveArguments& arguments);

/// Measures every size that `arguments` ask for; rank 0 prints a table, or the
/// report on standard output in its place. Tensors are on `device`. Collective;
/// blocks. Returns the exit code: 0 if every result was right.
int run_collective(bench::Subject& subject, const bench::CollectiveArguments& arguments,
                   const at::Device& device = at::kCPU);

}  // namespace isobar
