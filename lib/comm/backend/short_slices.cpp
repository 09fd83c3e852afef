// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/short_slices.hpp"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace isobar {
namespace {

/// The least that Linux takes.
constexpr uint64_t kShortNs = 100'000;

/// False for threads of another policy, which slices do not concern.
bool get(sched_attr& attributes) noexcept {
  attributes = {};
  return syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) == 0 &&
         (attributes.sched_policy == SCHED_NORMAL || attributes.sched_policy == SCHED_BATCH);
}

void set_slice(uint64_t ns) noexcept {
  sched_attr attributes;
  if (!get(attributes)) return;
  attributes.sched_runtime = ns;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace

ShortSlices::ShortSlices() noexcept : before_ns_(thread_slice_ns()) { set_slice(kShortNs); }
ShortSlices::~ShortSlices() { set_slice(before_ns_); }

uint64_t thread_slice_ns() noexcept {
  sched_attr attributes;
  return get(attributes) ? attributes.sched_runtime : 0;
}

}  // namespace isobar
