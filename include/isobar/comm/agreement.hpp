// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <functional>
#include <string>
#include <vector>

namespace isobar {

/// Runs `stage` on this rank and tells all ranks how it went. If it threw
/// anywhere, every rank throws the error of the lowest rank on which it did, of
/// the same type (Error, UsageError, CommError or DataError) and with the same
/// message, after "rank R of N: " where not every rank failed with that text.
/// What is thrown here and by require_equal is marked Error::known_to_all().
///
/// Collective; blocks. `stage` must not itself communicate over `comm`: a rank
/// that throws in the middle of a collective would leave the others in it.
void run_agreed(Communicator& comm, const std::function<void()>& stage);

/// Runs `stage`, which may communicate, and rethrows what it throws. An error that the
/// other ranks cannot know (not Error::known_to_all()) fails the world first, so that
/// they do not wait for this rank.
void run_or_abort(Communicator& comm, const std::function<void()>& stage);

/// Every rank's text, in the order of ranks. Collective; blocks.
std::vector<std::string> gather_texts(Communicator& comm, const std::string& text);

/// Throws the same UsageError on every rank unless `lines` are equal on all of
/// them: the message names `subject`, the first rank that differs from rank 0,
/// and the first line that differs, with both values. Collective; blocks.
void require_equal(Communicator& comm, const std::string& subject,
                   const std::vector<std::string>& lines);

}  // namespace isobar
