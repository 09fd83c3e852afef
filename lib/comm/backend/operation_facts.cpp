// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/operation_facts.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include "comm/backend/element_type.hpp"
#include "comm/backend/tensor_bytes.hpp"

namespace isobar {
namespace {

/// How large a bucket is; of everything else, what it is.
std::string contents(const Operation& operation) {
  const int32_t bucket = operation.mark.bucket;
  if (bucket < 0) return operation.signature();
  const auto& buffer = operation.output;
  return detail::join("bucket ", bucket, ", ", type_name(buffer.scalar_type()), ", ",
                      format_bytes(byte_count(buffer)));
}

std::string carried(const BucketMark& mark) {
  if (mark.bucket >= 0) return detail::join(" of bucket ", mark.bucket);
  if (mark.bucket == BucketMark::kReplan) return " of replan()";
  return mark.bucket == BucketMark::kBuffers ? " of buffers" : "";
}

}  // namespace

bool is_message(OperationKind kind) noexcept {
  return kind == OperationKind::send || kind == OperationKind::receive;
}

bool reduces(OperationKind kind) noexcept {
  return kind == OperationKind::allreduce || kind == OperationKind::reduce_scatter;
}

const at::Tensor& values_of(const Operation& operation) noexcept {
  return operation.output.defined() ? operation.output : operation.input;
}

int64_t row_elements(const at::Tensor& tensor) {
  int64_t elements = 1;
  for (int64_t d = 1; d < tensor.dim(); ++d) elements *= tensor.size(d);
  return elements;
}

int64_t row_bytes(const at::Tensor& tensor) {
  return row_elements(tensor) * static_cast<int64_t>(tensor.element_size());
}

bool needs_owner(at::ScalarType type, bool deterministic) noexcept {
  return at::isFloatingType(type) && (deterministic || accumulation_type(type) != type);
}

std::string reduction_name(ReduceOp op, double divisor) {
  if (divisor == 1) return std::string(to_string(op));
  return detail::join(to_string(op), "/", divisor);
}

std::string full_name(const Operation& operation, int rank, int size) {
  return detail::join(operation.name(), " on rank ", rank, " of ", size);
}

std::string in_words(std::chrono::milliseconds time) {
  if (time.count() < 1000) return detail::join(time.count(), " ms");
  return detail::join(static_cast<double>(time.count()) / 1000.0, " s");
}

std::string of_bucket(const BucketMark& mark) {
  auto text = carried(mark);
  if (text.empty()) return text;
  if (mark.reducer >= 0) text += detail::join(", reducer ", mark.reducer);
  if (mark.step >= 0) text += detail::join(", step ", mark.step);
  if (mark.frozen > 0) text += detail::join(", ", mark.frozen, " of its parameters frozen");
  if (mark.set > 0) text += detail::join(" (set ", mark.set, ")");
  return text;
}

std::string timed_out(const Operation& operation, int rank, int size) {
  return detail::join(full_name(operation, rank, size), ": no answer in ",
                      in_words(operation.timeout), " (", contents(operation), ")");
}

void check_on_cpu(const Operation& operation, std::string_view backend) {
  for (const auto* tensor : {&operation.input, &operation.output}) {
    ISOBAR_CHECK(!tensor->defined() || tensor->is_cpu(), to_string(operation.kind),
                 ": the tensor is on ", tensor->device(), ", but backend ", backend,
                 " takes CPU tensors; move it with .cpu() or choose a backend for that device");
  }
}

}  // namespace isobar
