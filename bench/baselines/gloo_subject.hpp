// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/bench/subject.hpp>
#include <c10/util/intrusive_ptr.h>

#include <memory>
#include <string>

namespace c10d {
class ProcessGroup;
}

namespace isobar::bench {

struct GlooSubjectOptions {
  Collective op = Collective::allreduce;
  int rank = 0;
  int size = 1;
  /// Rank 0's address and the port of the store that it serves.
  std::string address = "127.0.0.1";
  int port = 29500;
};

/// Gloo as PyTorch's users get it: LibTorch's c10d::ProcessGroupGloo with its
/// defaults, on the interface that leads to rank 0. Its backend is "gloo_bare".
/// Collective; blocks. no_gloo_subject.cpp throws UsageError.
std::unique_ptr<Subject> make_gloo_subject(const GlooSubjectOptions& options);

/// The same connections as c10d::Reducer takes them. `subject` is one that
/// make_gloo_subject() made.
c10::intrusive_ptr<c10d::ProcessGroup> gloo_process_group(Subject& subject);

}  // namespace isobar::bench
