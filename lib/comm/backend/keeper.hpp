// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

namespace isobar {

/// Keeps `object` to the end of the program and never destroys it: one for all transports. For the
/// buffers of an operation that failed, to which MPI, Gloo or a device may still write, and for
/// what a child made by fork() must not destroy, since its destructor would wait for threads that
/// are not there. Takes no lock; safe to call from any thread and from such a child.
void keep_to_the_end(std::shared_ptr<void> object);

}  // namespace isobar
