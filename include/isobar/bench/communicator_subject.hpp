// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/subject.hpp>
#include <isobar/comm/communicator.hpp>

#include <memory>

namespace isobar::bench {

/// A collective over a communicator, as users issue it. `comm` must outlive it.
std::unique_ptr<Subject> make_communicator_subject(Communicator& comm, Collective op);

}  // namespace isobar::bench
