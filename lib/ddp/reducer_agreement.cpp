// SPDX-License-Identifier: Apache-2.0
// How the ranks of a reducer agree, in its constructor and where it plans again; on the caller's
// thread of every rank.
//
// A rank looks for its own mistakes first, and run_agreed() tells all ranks of them, so that none
// enters a comparison that another never comes to. Each comparison throws on all ranks of its
// communicator or on none. Shards are compared within data-parallel groups, of which one may differ
// while the others agree: that is told to the world, or the others would go on alone.
#include "ddp/reducer_agreement.hpp"

#include "ddp/compressor_access.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/compressor.hpp>
#include <ATen/ATen.h>

#include <atomic>
#include <map>
#include <string_view>

namespace isobar {
namespace {

std::string_view to_string(Launch launch) {
  switch (launch) {
    case Launch::first_gradient:
      return "first_gradient";
    case Launch::counted:
      return "counted";
    case Launch::at_finish:
      break;
  }
  return "at_finish";
}

// Lines are key=value: a message then shows both values where ranks differ.
std::string describe(const BucketCaps& caps) {
  std::string text = detail::join("bucket caps=", caps.cap_bytes, ", first ", caps.first_cap_bytes,
                                  ", last ", caps.last_cap_bytes, " bytes");
  for (const int64_t cap : caps.cap_list) text += detail::join(", ", cap);
  return text;
}

std::string describe(const NamedParameter& parameter, bool with_shape) {
  const auto& tensor = parameter.tensor;
  std::string text = detail::join(parameter.name, "=", at::toString(tensor.scalar_type()), " ",
                                  c10::DeviceTypeName(tensor.device().type(), true), " ",
                                  to_string(parameter.reduction));
  if (!with_shape) return text;
  text += detail::join(" ", tensor.sizes());
  // Gradients are summed as they lie in memory.
  if (keeps_strides(tensor) && !tensor.is_contiguous()) {
    text += detail::join(" strides ", tensor.strides());
  }
  return text;
}

bool is_reducible(const at::Tensor& tensor) {
  switch (c10::toRealValueType(tensor.scalar_type())) {
    case at::kHalf:
    case at::kBFloat16:
    case at::kFloat:
    case at::kDouble:
      return true;
    default:
      return false;
  }
}

void check_parameter(const NamedParameter& parameter) {
  const auto& tensor = parameter.tensor;
  ISOBAR_CHECK(tensor.defined() && tensor.is_leaf() && tensor.requires_grad(),
               "Reducer: parameter '", parameter.name,
               "' must be a defined leaf tensor that requires a gradient");
  ISOBAR_CHECK(!tensor.is_inference(), "Reducer: parameter '", parameter.name,
               "' was made under c10::InferenceMode and cannot be trained; make the module outside "
               "of it");
  ISOBAR_CHECK(tensor.layout() == at::kStrided, "Reducer: parameter '", parameter.name,
               "' has layout ", tensor.layout(), ", only strided ones are reduced");
  ISOBAR_CHECK(is_reducible(tensor) && !tensor.is_meta(), "Reducer: parameter '", parameter.name,
               "' is ", tensor.scalar_type(), " on ", tensor.device(),
               "; only half, bfloat16, float, double and complex ones with memory are reduced");
}

// Two reducers would each send the gradient, and divide it.
void check_unowned(const NamedParameter& parameter) {
  const auto owner = GradHook::owner_of(parameter.tensor);
  if (!owner) return;
  throw UsageError(detail::join(
      "Reducer: the gradient of parameter '", parameter.name, "' is already reduced by ",
      owner->name,
      "; wrap one module that holds everything that shares it, or destroy that first"));
}

// Two slots would fight for one .grad.
void check_distinct(const std::vector<NamedParameter>& parameters) {
  std::map<const void*, std::string_view> names;
  for (const auto& parameter : parameters) {
    const auto [entry, is_new] =
        names.try_emplace(parameter.tensor.unsafeGetTensorImpl(), parameter.name);
    ISOBAR_CHECK(is_new, "Reducer: parameters '", entry->second, "' and '", parameter.name,
                 "' are the same tensor; give a shared parameter once");
  }
}

void check_own(const std::vector<NamedParameter>& parameters, const ReducerOptions& options,
               const ReducerGroups& groups, const std::shared_ptr<GradOwner>& owner) {
  for (const auto& parameter : parameters) check_parameter(parameter);
  for (const auto& parameter : parameters) check_unowned(parameter);
  check_distinct(parameters);
  plan_buckets({}, {}, options.caps);
  ISOBAR_CHECK(options.levels == GridLevels::flat || groups.model_size() > 1,
               "Reducer: GridLevels::two needs a ProcessGrid with more than one rank a model, got ",
               groups.model_size(), "; use GridLevels::flat");
  if (options.compressor) CompressorAccess::claim(*options.compressor, owner);
}

/// Rank 0's values on every rank.
std::vector<int64_t> agree_on(Communicator& world, std::vector<int64_t> values) {
  auto length = at::tensor({static_cast<int64_t>(values.size())});
  world.broadcast(length, 0).wait();
  values.resize(length.item<int64_t>());
  auto tensor = at::tensor(values, at::kLong);
  world.broadcast(tensor, 0).wait();
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

}  // namespace

// A rank's own mistakes come first, so that no rank waits for one that threw.
void check_agreement(const std::vector<NamedParameter>& parameters, const ReducerOptions& options,
                     const ReducerGroups& groups, const std::shared_ptr<GradOwner>& owner) {
  run_agreed(groups.world, [&] { check_own(parameters, options, groups, owner); });
  std::vector<std::string> common{
      describe(options.caps), detail::join("launch=", to_string(options.launch)),
      detail::join("levels=", options.levels == GridLevels::two ? "two" : "flat"),
      detail::join("compressor=", options.compressor ? options.compressor->description() : "none")};
  std::vector<std::string> sharded;
  for (const auto& parameter : parameters) {
    const bool is_sharded = parameter.reduction == Reduction::sharded;
    common.push_back(describe(parameter, !is_sharded));
    if (is_sharded) sharded.push_back(describe(parameter, true));
  }
  require_equal(groups.world, "Reducer: list of parameters", common);
  // One data-parallel group may differ where the others agree: all must hear of it. The comparison
  // may be over the world itself (one rank a model): it throws on all of its ranks at once, so that
  // each comes out of it to tell the others.
  run_agreed(groups.world,
             [&] { require_equal(groups.data, "Reducer: list of sharded parameters", sharded); });
}

int32_t agree_on_number(Communicator& world) {
  static std::atomic<int32_t> made{0};
  return static_cast<int32_t>(agree_on(world, {made++}).front());
}

void check_replan(Communicator& world, const BucketCaps& caps, int64_t version,
                  const BucketMark& mark) {
  auto asked = at::empty({world.size()}, at::kLong);
  world.all_gather(asked, at::zeros({1}, at::kLong), mark).synchronize();
  require_equal(world, "Reducer: replan", {describe(caps), detail::join("plan=", version)});
}

BucketPlan agree_on_plan(Communicator& world, const std::vector<NamedParameter>& parameters,
                         const std::vector<int64_t>& order, const BucketCaps& caps) {
  std::vector<int64_t> lengths, indices;
  for (const auto& bucket : plan_buckets(parameters, order, caps)) {
    lengths.push_back(static_cast<int64_t>(bucket.parameters.size()));
    indices.insert(indices.end(), bucket.parameters.begin(), bucket.parameters.end());
  }
  lengths = agree_on(world, lengths);
  indices = agree_on(world, indices);
  BucketPlan plan;
  auto next = indices.begin();
  for (const int64_t length : lengths) {
    Bucket bucket{{next, next + length}, 0};
    for (const int64_t p : bucket.parameters) {
      bucket.bytes += static_cast<int64_t>(parameters[p].tensor.nbytes());
    }
    plan.push_back(std::move(bucket));
    next += length;
  }
  return plan;
}

}  // namespace isobar
