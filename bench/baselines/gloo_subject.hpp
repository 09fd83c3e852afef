// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "bench/harness/subject.hpp"

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

}  // namespace isobar::bench
