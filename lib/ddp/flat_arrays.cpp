// SPDX-License-Identifier: Apache-2.0
#include "ddp/flat_arrays.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

namespace isobar {
namespace {

/// Part of a flat buffer in the shape of `like`, and no view of it: LibTorch refuses some
/// operations on views.
at::Tensor shaped(const at::Tensor& flat, const Slot& slot, const at::Tensor& like) {
  auto tensor = at::empty({0}, flat.options());
  tensor.set_(flat.storage(), flat.storage_offset() + slot.offset, like.sizes(), like.strides());
  return tensor;
}

}  // namespace

FlatArrays::FlatArrays(Reducer& reducer, int moments)
    : reducer_(reducer), places_(reducer.parameters().size()), moments_(moments) {
  follow_plan();
}

bool FlatArrays::follow_plan() {
  if (version_ == reducer_.plan_version()) return false;
  c10::NoGradGuard no_grad;
  const auto before = places_;
  const auto buckets = static_cast<int64_t>(reducer_.plan().size());
  slots_.clear();
  for (int64_t b = 0; b < buckets; ++b) {
    slots_.push_back(reducer_.slots(b));
    for (const auto& slot : slots_.back()) places_[slot.parameter] = {b, slot};
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
    const auto& parameter = reducer_.parameters()[slot.parameter].tensor;
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

void FlatArrays::move_parameters() {
  auto buffers = empty_buffers();
  for (size_t p = 0; p < places_.size(); ++p) {
    auto parameter = reducer_.parameters()[p].tensor;
    const auto moved = shaped(buffers[places_[p].bucket], places_[p].slot, parameter);
    moved.copy_(parameter);
    parameter.set_data(moved);
  }
  parameters_ = std::move(buffers);
}

void FlatArrays::move_moment(std::vector<at::Tensor>& buffers, const std::vector<Place>& before) {
  auto moved = empty_buffers();
  for (size_t p = 0; p < places_.size() && !buffers.empty(); ++p) {
    const auto& [bucket, slot] = before[p];
    const auto& place = places_[p];
    moved[place.bucket]
        .narrow(0, place.slot.offset, slot.elements)
        .copy_(buffers[bucket].narrow(0, slot.offset, slot.elements));
  }
  buffers = std::move(moved);
}

at::Tensor FlatArrays::moment_of(int64_t which, int64_t parameter) const {
  const auto& place = places_[parameter];
  return shaped(moments_[which][place.bucket], place.slot, reducer_.parameters()[parameter].tensor);
}

}  // namespace isobar
