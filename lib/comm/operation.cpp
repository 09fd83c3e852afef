// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/operation.hpp>
#include <isobar/core/error.hpp>

#include "comm/backend/element_type.hpp"
#include "comm/backend/operation_facts.hpp"

namespace isobar {
namespace {

std::string elements(const at::Tensor& tensor) {
  return detail::join(type_name(tensor.scalar_type()), "[", tensor.numel(), "]");
}

/// The extents of one row; the number of rows is each rank's own.
std::string row_shape(const at::Tensor& tensor) { return detail::join(tensor.sizes().slice(1)); }

}  // namespace

std::string_view to_string(OperationKind kind) noexcept {
  switch (kind) {
    case OperationKind::allreduce:
      return "allreduce";
    case OperationKind::reduce_scatter:
      return "reduce_scatter";
    case OperationKind::all_gather:
      return "all_gather";
    case OperationKind::all_to_all:
      return "all_to_all";
    case OperationKind::broadcast:
      return "broadcast";
    case OperationKind::send:
      return "send";
    case OperationKind::receive:
      return "receive";
    case OperationKind::barrier:
      return "barrier";
  }
  return "unknown";
}

std::string Operation::signature() const { return signature_of_values() + of_bucket(mark); }

std::string Operation::signature_of_values() const {
  const auto kind_name = to_string(kind);
  switch (kind) {
    case OperationKind::allreduce:
    case OperationKind::reduce_scatter:
      return detail::join(kind_name, " ", reduction_name(reduce, divisor), " ", elements(output));
    case OperationKind::all_gather:
    case OperationKind::send:
      return detail::join(kind_name, " ", elements(input));
    case OperationKind::all_to_all:
      return detail::join(kind_name, " ", type_name(input.scalar_type()), " rows of ",
                          row_shape(input));
    case OperationKind::broadcast:
      return detail::join(kind_name, " from ", peer, " ", elements(output));
    case OperationKind::receive:
      return detail::join(kind_name, " ", elements(output));
    case OperationKind::barrier:
      break;
  }
  return std::string(kind_name);
}

std::string Operation::name() const {
  const auto numbered = detail::join(to_string(kind), " #", sequence);
  if (kind == OperationKind::send) return detail::join(numbered, " to ", peer, " tag ", tag);
  if (kind == OperationKind::receive) return detail::join(numbered, " from ", peer, " tag ", tag);
  return numbered;
}

}  // namespace isobar
