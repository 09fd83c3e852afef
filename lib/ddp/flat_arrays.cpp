// SPDX-License-Identifier: Apache-2.0
// What a FlatOptimizer keeps beside a reducer's buckets; called by it alone, on the thread that
// updates.
//
// The layout is that of the gradients, so that an update goes over a bucket's gradients, parameters
// and moments from end to end. Everything moves where the plan changes, or where somebody has given
// a parameter other memory. A parameter that shares memory with another tensor of the module is
// refused before anything moves: afterwards the other one would keep the old values, and never
// learn again.
#include "ddp/flat_arrays.hpp"

#include "ddp/reducer_access.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <set>

namespace isobar {
namespace {

/// Part of a flat buffer in the shape of `like`, and no view of it: LibTorch refuses some
/// operations on views.
at::Tensor shaped(const at::Tensor& flat, const Slot& slot, const at::Tensor& like) {
  auto tensor = at::empty({0}, flat.options());
  tensor.set_(flat.storage(), flat.storage_offset() + slot.offset, like.sizes(), like.strides());
  return tensor;
}

/// Where a tensor's elements are.
struct Extent {
  const char* begin = nullptr;
  const char* end = nullptr;
  std::string_view name;
  bool is_parameter = false;
};

void add_extent(const NamedParameter& named, bool is_parameter, std::vector<Extent>& extents) {
  const auto& tensor = named.tensor;
  if (!tensor.defined() || !tensor.has_storage() || tensor.numel() == 0) return;
  const auto* begin = static_cast<const char*>(tensor.const_data_ptr());
  if (!begin) return;
  int64_t last = 0;
  for (int64_t d = 0; d < tensor.dim(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
  const auto width = static_cast<int64_t>(tensor.element_size());
  extents.push_back({begin, begin + (last + 1) * width, named.name, is_parameter});
}

/// What else the module of a reducer holds.
std::vector<NamedParameter> others_of(const Reducer& reducer) {
  std::vector<NamedParameter> others;
  const auto* module = ReducerAccess::owner(reducer)->module;
  if (!module) return others;
  for (const auto& item : module->named_parameters()) others.push_back({item.key(), item.value()});
  for (const auto& item : module->named_buffers()) others.push_back({item.key(), item.value()});
  return others;
}

}  // namespace

std::string shared_memory(const std::vector<NamedParameter>& parameters,
                          const std::vector<NamedParameter>& others) {
  std::set<const void*> known;
  std::vector<Extent> extents;
  for (const auto& parameter : parameters) {
    known.insert(parameter.tensor.unsafeGetTensorImpl());
    add_extent(parameter, true, extents);
  }
  for (const auto& other : others) {
    if (known.insert(other.tensor.unsafeGetTensorImpl()).second) add_extent(other, false, extents);
  }
  std::stable_sort(extents.begin(), extents.end(),
                   [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  Extent parameter, other;  // of those so far the one that goes furthest
  for (const auto& extent : extents) {
    const auto* before = extent.begin < parameter.end                      ? &parameter
                         : extent.is_parameter && extent.begin < other.end ? &other
                                                                           : nullptr;
    if (before) {
      const auto& moved = extent.is_parameter ? extent : *before;
      const auto& tied = extent.is_parameter ? *before : extent;
      return detail::join("parameter '", moved.name, "' shares memory with '", tied.name, "'");
    }
    auto& furthest = extent.is_parameter ? parameter : other;
    if (!furthest.end || furthest.end < extent.end) furthest = extent;
  }
  return {};
}

FlatArrays::FlatArrays(Reducer& reducer, int moments)
    : reducer_(reducer),
      list_(reducer.parameters()),
      slot_of_(reducer.parameters().size()),
      moments_(moments) {
  follow_plan();
}

bool FlatArrays::follow_plan() {
  if (version_ == reducer_.plan_version()) return false;
  check_apart();
  c10::NoGradGuard no_grad;
  const auto before = slot_of_;
  const auto buckets = static_cast<int64_t>(reducer_.plan().size());
  slots_.clear();
  for (int64_t b = 0; b < buckets; ++b) {
    slots_.push_back(reducer_.slots(b));
    for (const auto& slot : slots_.back()) slot_of_[slot.parameter] = {b, slot};
  }
  // One array after the other: what is there twice meanwhile is one of them.
  move_parameters();
  for (auto& moment : moments_) move_moment(moment, before);
  version_ = reducer_.plan_version();
  return true;
}

bool FlatArrays::holds(int64_t bucket) const {
  const auto& flat = parameters_[bucket];
  const auto* begin = static_cast<const char*>(flat.const_data_ptr());
  const auto width = static_cast<int64_t>(flat.element_size());
  for (const auto& slot : slots_[bucket]) {
    const auto& parameter = list_[slot.parameter].tensor;
    if (slot.elements > 0 && parameter.const_data_ptr() != begin + slot.offset * width)
      return false;
  }
  return true;
}

std::vector<at::Tensor> FlatArrays::empty_buffers() const {
  std::vector<at::Tensor> result;
  for (int64_t b = 0; b < buckets(); ++b) {
    result.push_back(at::zeros_like(reducer_.gradients(b)));
  }
  return result;
}

void FlatArrays::check_apart() const {
  const auto found = shared_memory(list_, others_of(reducer_));
  ISOBAR_CHECK(found.empty(), "FlatOptimizer: ", found,
               ", and would not once it lies in a flat buffer; register one tensor under both "
               "names, or use an optimizer that updates each parameter by itself");
}

void FlatArrays::take_gradients(int64_t bucket) {
  c10::NoGradGuard no_grad;
  const auto& flat = reducer_.gradients(bucket);
  const auto* begin = static_cast<const char*>(flat.const_data_ptr());
  const auto width = static_cast<int64_t>(flat.element_size());
  for (const auto& slot : slots_[bucket]) {
    const auto& parameter = list_[slot.parameter].tensor;
    const auto& grad = parameter.grad();
    if (!grad.defined() || slot.elements == 0) continue;
    const bool is_here =
        grad.layout() == at::kStrided && grad.const_data_ptr() == begin + slot.offset * width;
    if (!is_here) shaped(flat, slot, parameter).copy_(grad);
  }
}

void FlatArrays::move_parameters() {
  auto buffers = empty_buffers();
  for (size_t p = 0; p < slot_of_.size(); ++p) {
    auto parameter = list_[p].tensor;
    const auto moved = shaped(buffers[slot_of_[p].bucket], slot_of_[p].slot, parameter);
    moved.copy_(parameter);
    parameter.set_data(moved);
  }
  parameters_ = std::move(buffers);
}

void FlatArrays::move_moment(std::vector<at::Tensor>& buffers,
                             const std::vector<SlotInBucket>& before) {
  auto moved = empty_buffers();
  for (size_t p = 0; p < slot_of_.size() && !buffers.empty(); ++p) {
    const auto& [bucket, slot] = before[p];
    const auto& own = slot_of_[p];
    moved[own.bucket]
        .narrow(0, own.slot.offset, slot.elements)
        .copy_(buffers[bucket].narrow(0, slot.offset, slot.elements));
  }
  buffers = std::move(moved);
}

at::Tensor FlatArrays::moment_of(int64_t which, int64_t parameter) const {
  const auto& own = slot_of_[parameter];
  return shaped(moments_[which][own.bucket], own.slot, list_[parameter].tensor);
}

}  // namespace isobar
