// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>

#include <memory>

#include "bench/harness/subject.hpp"

namespace isobar {

/// A collective over a communicator, as users issue it. `comm` must outlive it.
std::unique_ptr<bench::Subject> make_communicator_subject(Communicator& comm, bench::Collective op);

}  // namespace isobar
