// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>

#include "bench/baselines/gloo_subject.hpp"

namespace isobar::bench {

std::unique_ptr<Subject> make_gloo_subject(const GlooSubjectOptions&) {
  throw UsageError("this program was built without Gloo's headers; Debian has them in libgloo-dev");
}

}  // namespace isobar::bench
