// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ddp/frozen_parameters.hpp"
#include "ddp/grad_hook.hpp"
#include "ddp/gradient_buffers.hpp"
#include "ddp/reducer_arrivals.hpp"
#include "ddp/reducer_collectives.hpp"
#include "ddp/step_errors.hpp"

#include <isobar/ddp/reducer.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace isobar {

/// What shows that a parameter's values have been written to.
struct ValueMark {
  uint32_t version = 0;
  std::array<uint64_t, 3> bytes = {};  ///< of its first, middle and last element, on the CPU
  bool operator==(const ValueMark&) const = default;
};

/// The bytes tell of updates that the version does not: torch::optim::SGD writes to p.data(),
/// which has a version of its own. Values on a device are not fetched for it.
ValueMark mark_value(const at::Tensor& tensor);

/// A reducer's plan, the memory of its gradients, and the step under way.
struct Reducer::Impl {
  Impl(std::vector<NamedParameter> list, const ReducerGroups& groups, ReducerOptions wanted);
  ~Impl();

  /// Collective; blocks.
  static std::shared_ptr<Impl> make(std::vector<NamedParameter> parameters,
                                    const ReducerGroups& groups, ReducerOptions options);

  int64_t count() const { return static_cast<int64_t>(parameters.size()); }
  bool is_accumulating() const { return *owner->scopes > 0; }
  bool is_ignored(int64_t parameter) const;
  bool is_sent(int64_t parameter) const { return bucket_of[parameter] < collectives.launched(); }

  void set_plan(const std::vector<int64_t>& order);
  void attach_hooks();
  void check_current() const;
  void find_unusable();
  std::vector<NamedParameter> layouts() const;
  void open_step();
  void thaw(int64_t parameter);
  void keep_compressor();
  BucketMark mark_of(int64_t bucket) const;
  void recover(int64_t parameter);
  void take_discards(int64_t parameter);
  void notice_update();
  void before_gradient(int64_t parameter);
  void after_gradient(int64_t parameter);
  void launch_next();
  void complete_all(const BucketCallback* on_bucket);
  void end_step();
  void finish(const BucketCallback& on_bucket);

  std::shared_ptr<GradOwner> owner = std::make_shared<GradOwner>();
  std::vector<NamedParameter> parameters;
  ReducerGroups groups;
  ReducerOptions options;

  BucketPlan plan;
  int64_t plan_version = 0;
  std::optional<BucketCaps> replan_with;  ///< asked for at the next finish()
  std::vector<int64_t> bucket_of;         ///< by parameter
  std::optional<GradientBuffers> buffers;
  BucketCollectives collectives;
  int32_t number;  ///< of the reducer, see BucketMark
  Arrivals arrivals;
  std::vector<GradHook> hooks;

  // The step under way.
  bool is_open = false;
  FrozenParameters frozen;
  std::vector<bool> unusable;    ///< by parameter: it is not any more what was wrapped
  std::vector<ValueMark> marks;  ///< by parameter, when the step opened
  bool has_warned_of_update = false;
  StepErrors errors;
  int64_t step = 1;

  ReducerCounters counters;
  bool is_looked_at = false;  ///< the caller has seen the counters of the last step
};

}  // namespace isobar
