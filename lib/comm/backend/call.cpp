// SPDX-License-Identifier: Apache-2.0
#include "comm/backend/call.hpp"

#include <isobar/core/error.hpp>

#include "comm/backend/element_type.hpp"
#include "comm/backend/operation_facts.hpp"

namespace isobar {
namespace {

/// The tensor whose extent is the same on all ranks.
const at::Tensor& agreed(const Operation& operation) {
  const bool by_input =
      operation.kind == OperationKind::all_gather || operation.kind == OperationKind::all_to_all;
  return by_input ? operation.input : operation.output;
}

std::string signature_of_values(const Call& call) {
  const auto kind = static_cast<OperationKind>(call.kind);
  const auto type = type_name(static_cast<at::ScalarType>(call.type));
  const auto elements = detail::join(type, "[", call.count, "]");
  switch (kind) {
    case OperationKind::allreduce:
    case OperationKind::reduce_scatter:
      return detail::join(to_string(kind), " ",
                          reduction_name(static_cast<ReduceOp>(call.reduce), call.divisor()), " ",
                          elements);
    case OperationKind::all_to_all:
      return detail::join(to_string(kind), " ", type, " rows of ", call.count);
    case OperationKind::broadcast:
      return detail::join(to_string(kind), " from ", call.peer, " ", elements);
    case OperationKind::barrier:
      return std::string(to_string(kind));
    default:
      return detail::join(to_string(kind), " ", elements);
  }
}

}  // namespace

Call call_of(const Operation& operation) noexcept {
  const auto kind = operation.kind;
  Call call;
  call.kind = static_cast<uint8_t>(kind);
  if (kind == OperationKind::broadcast) call.peer = operation.peer;
  call.mark = operation.mark;
  if (reduces(kind)) {
    call.reduce = static_cast<uint8_t>(operation.reduce);
    call.divisor_bits = std::bit_cast<int32_t>(static_cast<float>(operation.divisor));
  }
  const auto& tensor = agreed(operation);
  if (!tensor.defined()) return call;
  call.type = static_cast<uint8_t>(tensor.scalar_type());
  call.count = kind == OperationKind::all_to_all ? row_elements(tensor) : tensor.numel();
  return call;
}

bool is_valid(const Call& call) noexcept {
  return call.count >= 0 && call.peer >= 0 && call.divisor() > 0 &&
         call.mark.bucket >= BucketMark::kBuffers && call.mark.frozen >= 0 &&
         call.kind <= static_cast<uint8_t>(OperationKind::barrier) &&
         call.reduce <= static_cast<uint8_t>(ReduceOp::maximum) &&
         call.type < static_cast<uint8_t>(at::ScalarType::Undefined);
}

std::string signature(const Call& call) { return signature_of_values(call) + of_bucket(call.mark); }

std::string name(const Call& call, int64_t sequence) {
  return detail::join(to_string(static_cast<OperationKind>(call.kind)), " #", sequence);
}

}  // namespace isobar
