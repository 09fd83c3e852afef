// SPDX-License-Identifier: Apache-2.0
#include "ddp/grad_guard.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/impl/COW.h>
#include <c10/core/impl/COWDeleter.h>

namespace isobar {
namespace {

using c10::impl::cow::cow_deleter;
using c10::impl::cow::COWDeleterContext;

/// Shares the shown memory's owner, which nobody frees through it.
COWDeleterContext* make_context(const at::Tensor& shown) {
  const auto release = [](void* storage) { delete static_cast<c10::Storage*>(storage); };
  return new COWDeleterContext(
      std::unique_ptr<void, c10::DeleterFnPtr>(new c10::Storage(shown.storage()), release));
}

}  // namespace

// LibTorch's copy on write. A version counter would miss what writes to `.grad().data()`, as
// torch::nn::utils::clip_grad_norm_ does, and a comparison of values what comes while they change.
GradGuard::GradGuard(const at::Tensor& shown) {
  auto* context = make_context(shown);
  context->increment_refcount();
  void* memory = shown.mutable_data_ptr();
  anchor_ = c10::DataPtr(memory, context, cow_deleter, shown.device());
  const c10::Storage storage(c10::Storage::use_byte_size_t{}, shown.nbytes(),
                             c10::DataPtr(memory, context, cow_deleter, shown.device()),
                             shown.storage().allocator(), /*resizable=*/false);
  tensor_ = at::empty({0}, shown.options());
  tensor_.set_(storage, 0, shown.sizes(), shown.strides());
}

bool GradGuard::is_touched() const {
  return !c10::impl::cow::is_cow_data_ptr(tensor_.storage().data_ptr());
}

}  // namespace isobar
