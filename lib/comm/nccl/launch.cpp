// SPDX-License-Identifier: Apache-2.0
// On the queue's issuing thread. All steps of an operation go on the link's one stream in their
// order, so a step needs no event for what the one before it wrote, and scratch memory lives until
// the stream has passed. Sends and receives of an exchange are one group of NCCL's: issued singly,
// each would wait for its peer before the next is there.
#include "comm/nccl/launch.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ops/div.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>

#include <algorithm>
#include <utility>

#include "comm/backend/element_type.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/backend/tensor_bytes.hpp"

namespace isobar {
namespace {

NcclType nccl_type(at::ScalarType type) {
  switch (type) {
    case at::kChar:
      return NcclType::int8;
    case at::kByte:
      return NcclType::uint8;
    case at::kInt:
      return NcclType::int32;
    case at::kLong:
      return NcclType::int64;
    case at::kHalf:
      return NcclType::float16;
    case at::kBFloat16:
      return NcclType::bfloat16;
    case at::kFloat:
      return NcclType::float32;
    case at::kDouble:
      return NcclType::float64;
    default:
      throw CommError("no type of NCCL's for " + type_name(type));
  }
}

/// What makes one value of those of all ranks.
enum class Combining {
  by_nccl,    ///< in the values' own type
  by_owners,  ///< each part by one rank, in the order of ranks
  widened,    ///< by NCCL, in a type that holds the sums of 16-bit values
};

/// NCCL's own sums round a 16-bit float at every hop, and add in an order that depends on the
/// position; it has no 16-bit integers. The least and the greatest value depend on no order. Owners
/// take a kernel for each rank and a connection to each, with megabytes of buffers: over many ranks
/// 16-bit values go in 32 bits instead, unless their order is promised, which counts for floats
/// alone. bfloat16 too, though NCCL adds it: 256 + 1 is 256 in it, so the mean of 2,048 equal
/// values in a ring would be an eighth of them.
Combining combining_of(const Operation& operation, const NcclLinkOptions& options) {
  const auto type = operation.output.scalar_type();
  const bool is_sum = operation.reduce == ReduceOp::sum;
  const bool is_for_nccl =
      type != at::kShort && !(is_sum && needs_owner(type, options.deterministic));
  if (is_for_nccl) return Combining::by_nccl;
  const bool is_ordered = options.deterministic && at::isFloatingType(type);
  return options.size > options.few_ranks && !is_ordered ? Combining::widened
                                                         : Combining::by_owners;
}

/// The type for the sums of that 16-bit one.
at::ScalarType widened_type(at::ScalarType type) {
  return type == at::kShort ? at::kInt : accumulation_type(type);
}

/// `total`, divided, into what may have fewer bits: one kernel, and one rounding.
void round_into(const at::Tensor& into, const at::Tensor& total, double divisor) {
  if (divisor == 1) {
    into.copy_(total);
    return;
  }
  // By a tensor on the device: by a number, LibTorch multiplies with its rounded inverse there.
  auto rounded = into;
  at::div_out(rounded, total, at::full({}, divisor, total.options()));
}

/// Rank 0's part op rank 1's op ..., as the threads backend does it: the same bits. A kernel a row:
/// 16 bits become 32 in the one that adds them.
void combine_rows(const at::Tensor& parts, ReduceOp op, double divisor, const at::Tensor& into) {
  auto total =
      parts[0].to(accumulation_type(parts.scalar_type()), /*non_blocking=*/false, /*copy=*/true);
  for (int64_t r = 1; r < parts.size(0); ++r) {
    const auto part = parts[r];
    if (op == ReduceOp::sum) total.add_(part);
    if (op == ReduceOp::minimum) at::minimum_out(total, total, part);
    if (op == ReduceOp::maximum) at::maximum_out(total, total, part);
  }
  round_into(into, total, divisor);
}

/// Flat, and with a version counter of its own: a transport writes memory behind autograd's back.
at::Tensor flat(const at::Tensor& tensor) { return tensor.variable_data().view({-1}); }

/// What one operation does on the link's stream, step by step.
class Launch {
 public:
  Launch(NcclLink& link, std::vector<at::Tensor>& scratch)
      : link_(link), api_(link.api()), stream_(link.stream()), scratch_(scratch) {}

  void run(const Operation& operation);

 private:
  using Counts = std::vector<int64_t>;

  int size() const { return link_.options().size; }
  int rank() const { return link_.options().rank; }

  void allreduce(const Operation& operation);
  void allreduce_in_place(const at::Tensor& buffer, ReduceOp op);
  void owner_allreduce(const Operation& operation);
  void widened_allreduce(const Operation& operation);
  void reduce_scatter(const Operation& operation);
  void reduce_scatter_into(const at::Tensor& output, const at::Tensor& input, ReduceOp op);
  void owner_reduce_scatter(const Operation& operation);
  void widened_reduce_scatter(const Operation& operation);
  void all_gather(const at::Tensor& input, const at::Tensor& output);
  void all_to_all(const Operation& operation);
  void broadcast(const Operation& operation);
  void barrier();

  at::Tensor allocate(int64_t count, at::ScalarType type);
  at::Tensor widened(const at::Tensor& tensor);
  void compute(std::function<void()> work);
  NcclStatus grouped(const std::function<NcclStatus()>& calls);
  /// Bytes to and from each rank, one part behind the other.
  void exchange(const at::Tensor& input, const Counts& sent, const at::Tensor& output,
                const Counts& received);

  NcclLink& link_;
  const NcclApi& api_;
  DeviceStream stream_;
  std::vector<at::Tensor>& scratch_;
};

void Launch::run(const Operation& operation) {
  switch (operation.kind) {
    case OperationKind::allreduce:
      return allreduce(operation);
    case OperationKind::reduce_scatter:
      return reduce_scatter(operation);
    case OperationKind::all_gather:
      return all_gather(operation.input, operation.output);
    case OperationKind::all_to_all:
      return all_to_all(operation);
    case OperationKind::broadcast:
      return broadcast(operation);
    case OperationKind::barrier:
      return barrier();
    case OperationKind::send:
    case OperationKind::receive:
      break;  // the communicator refuses them
  }
}

at::Tensor Launch::allocate(int64_t count, at::ScalarType type) {
  auto tensor = api_.allocate(link_.options().device, stream_, count, type);
  return scratch_.emplace_back(std::move(tensor));
}

/// A copy in the type for its sums.
at::Tensor Launch::widened(const at::Tensor& tensor) {
  const auto from = flat(tensor);
  const auto wide = allocate(from.numel(), widened_type(from.scalar_type()));
  compute([=] { wide.copy_(from); });
  return wide;
}

void Launch::compute(std::function<void()> work) {
  api_.compute(link_.options().device, stream_, std::move(work));
}

NcclStatus Launch::grouped(const std::function<NcclStatus()>& calls) {
  if (auto status = api_.group_start(); status.result == NcclResult::error) return status;
  auto inside = calls();
  auto end = api_.group_end();  // in any case: a group left open takes in what comes next
  return inside.result == NcclResult::error ? inside : end;
}

void Launch::exchange(const at::Tensor& input, const Counts& sent, const at::Tensor& output,
                      const Counts& received) {
  const auto calls = [&](NcclComm comm) -> NcclStatus {
    // A rank sends to itself as well: NCCL copies that on the device, in the same group.
    const char* from = bytes_of(input);
    char* to = bytes_of(output);
    for (int r = 0; r < size(); ++r) {
      NcclStatus status;
      if (sent[r] > 0) status = api_.send(from, sent[r], r, comm, stream_);
      if (status.result == NcclResult::error) return status;
      if (received[r] > 0) status = api_.receive(to, received[r], r, comm, stream_);
      if (status.result == NcclResult::error) return status;
      from += sent[r];
      to += received[r];
    }
    return {};
  };
  link_.call([&](NcclComm comm) { return grouped([&] { return calls(comm); }); });
}

void Launch::allreduce(const Operation& operation) {
  if (operation.output.numel() == 0) return;
  switch (combining_of(operation, link_.options())) {
    case Combining::by_nccl:
      return allreduce_in_place(operation.output, operation.reduce);
    case Combining::by_owners:
      return owner_allreduce(operation);
    case Combining::widened:
      return widened_allreduce(operation);
  }
}

void Launch::allreduce_in_place(const at::Tensor& buffer, ReduceOp op) {
  link_.call([&](NcclComm comm) {
    return api_.allreduce(bytes_of(buffer), bytes_of(buffer), buffer.numel(),
                          nccl_type(buffer.scalar_type()), op, comm, stream_);
  });
}

void Launch::widened_allreduce(const Operation& operation) {
  const auto sums = widened(operation.output);
  allreduce_in_place(sums, operation.reduce);
  compute([=, buffer = flat(operation.output), divisor = operation.divisor] {
    round_into(buffer, sums, divisor);
  });
}

/// All-to-all of parts, a sum by the part's owner, all-gather of the sums: as many bytes on the
/// wire as a ring's, each value rounded once.
void Launch::owner_allreduce(const Operation& operation) {
  const auto buffer = flat(operation.output);
  const auto count = buffer.numel();
  const auto part = (count + size() - 1) / size();
  const auto length = [&](int r) { return std::clamp<int64_t>(count - r * part, 0, part); };
  const auto mine = length(rank());
  const auto element = static_cast<int64_t>(buffer.element_size());

  Counts sent;
  for (int r = 0; r < size(); ++r) sent.push_back(length(r) * element);
  const auto parts = allocate(size() * mine, buffer.scalar_type()).view({size(), mine});
  exchange(buffer, sent, parts, Counts(size(), mine * element));

  // NCCL gathers parts of one length only.
  const bool even = part * size() == count;
  const auto whole = even ? buffer : allocate(part * size(), buffer.scalar_type());
  const auto own = whole.narrow(0, rank() * part, mine);
  compute([=, op = operation.reduce, divisor = operation.divisor] {
    combine_rows(parts, op, divisor, own);
  });
  all_gather(whole.narrow(0, rank() * part, part), whole);
  if (!even) compute([=] { buffer.copy_(whole.narrow(0, 0, count)); });
}

void Launch::reduce_scatter(const Operation& operation) {
  if (operation.output.numel() == 0) return;
  switch (combining_of(operation, link_.options())) {
    case Combining::by_nccl:
      return reduce_scatter_into(operation.output, operation.input, operation.reduce);
    case Combining::by_owners:
      return owner_reduce_scatter(operation);
    case Combining::widened:
      return widened_reduce_scatter(operation);
  }
}

void Launch::reduce_scatter_into(const at::Tensor& output, const at::Tensor& input, ReduceOp op) {
  link_.call([&](NcclComm comm) {
    return api_.reduce_scatter(bytes_of(input), bytes_of(output), output.numel(),
                               nccl_type(output.scalar_type()), op, comm, stream_);
  });
}

/// The sums come in place of what this rank gave to them, as NCCL allows.
void Launch::widened_reduce_scatter(const Operation& operation) {
  const auto output = flat(operation.output);
  const auto values = widened(operation.input);
  const auto sums = values.narrow(0, rank() * output.numel(), output.numel());
  reduce_scatter_into(sums, values, operation.reduce);
  compute([=, divisor = operation.divisor] { round_into(output, sums, divisor); });
}

void Launch::owner_reduce_scatter(const Operation& operation) {
  const auto output = flat(operation.output);
  const auto parts = allocate(size() * output.numel(), output.scalar_type());
  const Counts each(size(), byte_count(output));
  exchange(operation.input, each, parts, each);
  compute([=, rows = parts.view({size(), -1}), op = operation.reduce, divisor = operation.divisor] {
    combine_rows(rows, op, divisor, output);
  });
}

void Launch::all_gather(const at::Tensor& input, const at::Tensor& output) {
  if (input.numel() == 0) return;
  link_.call([&](NcclComm comm) {
    return api_.all_gather(bytes_of(input), bytes_of(output), byte_count(input), comm, stream_);
  });
}

void Launch::all_to_all(const Operation& operation) {
  const auto row = row_bytes(operation.input);
  auto sent = operation.input_rows;
  auto received = operation.output_rows;
  for (auto* rows : {&sent, &received}) {
    for (auto& count : *rows) count *= row;
  }
  exchange(operation.input, sent, operation.output, received);
}

void Launch::broadcast(const Operation& operation) {
  const auto& buffer = operation.output;
  if (buffer.numel() == 0) return;
  link_.call([&](NcclComm comm) {
    return api_.broadcast(bytes_of(buffer), byte_count(buffer), operation.peer, comm, stream_);
  });
}

/// NCCL has none: the shortest operation that needs every rank.
void Launch::barrier() {
  const auto one = allocate(1, at::kFloat);
  link_.call([&](NcclComm comm) {
    return api_.allreduce(bytes_of(one), bytes_of(one), 1, NcclType::float32, ReduceOp::maximum,
                          comm, stream_);
  });
}

}  // namespace

void launch(const Operation& operation, NcclLink& link, std::vector<at::Tensor>& scratch) {
  Launch(link, scratch).run(operation);
}

}  // namespace isobar
