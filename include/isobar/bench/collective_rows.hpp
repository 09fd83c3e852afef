// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/collective_arguments.hpp>
#include <isobar/bench/plain_stream.hpp>
#include <isobar/bench/subject.hpp>
#include <nlohmann/json_fwd.hpp>

#include <string>

namespace isobar::bench {

/// Measures every size that `arguments` ask for, and gives a row a size, on every rank. `stream`
/// is what the same call has measured; tensors are on `device`. Rank 0 says on standard error how
/// far it has come. A result was right where its row's `error` is 0. Collective; blocks.
nlohmann::json collective_rows(Subject& subject, const CollectiveArguments& arguments,
                               const PlainStream& stream, const at::Device& device = at::kCPU);

/// The rows as a table for people.
std::string collective_table(const nlohmann::json& rows);

}  // namespace isobar::bench
