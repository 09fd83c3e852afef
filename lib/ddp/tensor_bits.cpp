// SPDX-License-Identifier: Apache-2.0
#include "ddp/tensor_bits.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/file_hash.hpp>
#include <isobar/core/hash.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <optional>

namespace isobar {
namespace {

/// One element of each set that is the same memory because of a stride of zero: LibTorch does
/// not write to others.
at::Tensor without_repeats(at::Tensor tensor, const at::Tensor& like) {
  for (int64_t d = 0; d < like.dim(); ++d) {
    if (like.size(d) > 1 && like.stride(d) == 0) tensor = tensor.narrow(d, 0, 1);
  }
  return tensor;
}

bool is_compressed_by_rows(const at::Tensor& tensor) {
  return tensor.layout() == at::kSparseCsr || tensor.layout() == at::kSparseBsr;
}

bool is_compressed_by_columns(const at::Tensor& tensor) {
  return tensor.layout() == at::kSparseCsc || tensor.layout() == at::kSparseBsc;
}

}  // namespace

std::string obstacle_to_copying(const at::Tensor& tensor) {
  if (tensor.is_quantized()) return "is quantized";
  if (tensor.is_nested()) return "is a nested tensor";
  if (tensor.is_meta()) return "has no memory (device meta)";
  const bool is_known = tensor.layout() == at::kStrided || tensor.layout() == at::kSparse ||
                        is_compressed_by_rows(tensor) || is_compressed_by_columns(tensor);
  return is_known ? std::string() : detail::join("has layout ", tensor.layout());
}

std::vector<at::Tensor> parts_of(const at::Tensor& tensor) {
  c10::NoGradGuard no_grad;
  const auto plain = tensor.detach();
  if (plain.layout() == at::kSparse) return {plain._indices(), plain._values()};
  if (is_compressed_by_rows(plain)) {
    return {plain.crow_indices(), plain.col_indices(), plain.values()};
  }
  if (is_compressed_by_columns(plain)) {
    return {plain.ccol_indices(), plain.row_indices(), plain.values()};
  }
  return {plain};
}

std::string describe_layout(const at::Tensor& tensor) {
  auto text = detail::join(at::toString(tensor.scalar_type()), " ", tensor.sizes());
  if (tensor.layout() == at::kStrided) return text;
  text += detail::join(" ", tensor.layout());
  if (tensor.layout() == at::kSparse) text += tensor.is_coalesced() ? " coalesced" : " uncoalesced";
  for (const auto& part : parts_of(tensor)) text += detail::join(" ", part.sizes());
  return text;
}

at::Tensor raw_bytes(const at::Tensor& strided) {
  c10::NoGradGuard no_grad;
  const auto plain = strided.detach().resolve_conj().resolve_neg();
  return plain.contiguous().view({-1}).view(at::kByte);
}

void set_raw_bytes(at::Tensor strided, const at::Tensor& bytes) {
  c10::NoGradGuard no_grad;
  std::optional<c10::InferenceMode> inference;  // outside of it LibTorch writes to no such tensor
  if (strided.is_inference()) inference.emplace();
  const auto values = bytes.view(strided.scalar_type()).view(strided.sizes());
  without_repeats(strided.detach(), strided).copy_(without_repeats(values, strided));
}

int64_t hash_of(const at::Tensor& tensor) {
  uint64_t hash = fnv1a(describe_layout(tensor));
  for (const auto& part : parts_of(tensor)) {
    const auto bytes = raw_bytes(part).cpu();
    const std::string_view text(static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes());
    hash = splitmix64(hash + kSplitmix64Step) ^ hash_bytes(text);
  }
  return static_cast<int64_t>(hash);
}

}  // namespace isobar
