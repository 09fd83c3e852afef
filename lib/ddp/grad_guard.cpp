// SPDX-License-Identifier: Apache-2.0
#include "ddp/grad_guard.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/impl/COW.h>
#include <c10/core/impl/COWDeleter.h>

#include <exception>
#include <utility>

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

/// Has a storage whose pointer shares memory copy it before the first write. Until LibTorch 2.14
/// every such storage did; since then it has to be asked to.
template <typename Storage>
void copy_on_write(Storage& storage) {
  using namespace c10::impl::cow;  // some versions have no materialize_cow
  if constexpr (requires { storage.has_materializer(); }) {
    if (!storage.has_materializer()) {
      storage.set_materializer([](Storage* written) { materialize_cow(written); });
    }
  }
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
  copy_on_write(*storage.unsafeGetStorageImpl());
  tensor_ = at::empty({0}, shown.options());
  tensor_.set_(storage, 0, shown.sizes(), shown.strides());
}

// Without the anchor the tensor's would be the last reference, which LibTorch takes for memory of
// its own.
GradGuard::~GradGuard() {
  if (!tensor_.defined() || is_touched()) return;
  if (tensor_.use_count() == 1 && tensor_.storage().use_count() == 1) return;
  try {
    (void)tensor_.storage().unsafeGetStorageImpl()->mutable_data();  // which copies
  } catch (const std::exception&) {
    (void)anchor_.release_context();  // no memory: the anchor stays for good
  }
}

GradGuard& GradGuard::operator=(GradGuard&& other) noexcept {
  std::swap(anchor_, other.anchor_);
  std::swap(tensor_, other.tensor_);
  return *this;
}

bool GradGuard::is_touched() const {
  return !c10::impl::cow::is_cow_data_ptr(tensor_.storage().data_ptr());
}

}  // namespace isobar
