// SPDX-License-Identifier: Apache-2.0
// Called by a rank's issuing thread, which never blocks here. An operation is checked before the
// transport sees it and before it has a number: a mistake that all ranks make throws on all of them
// and counts on none, so their numbers stay equal. Whatever the ranks must agree on beyond that is
// compared by others: rank 0 by the watch, or the transport itself.
#include <isobar/comm/census.hpp>
#include <isobar/comm/communicator.hpp>
#include <isobar/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "comm/backend/element_type.hpp"
#include "comm/backend/first_cause.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/backend/watch.hpp"

namespace isobar {
namespace {

/// MPI guarantees tags up to this, and no more.
constexpr int kMaxTag = 32767;

/// Whether their bytes overlap. Views of one storage may lie apart: buckets do.
bool share_memory(const at::Tensor& a, const at::Tensor& b) {
  if (a.nbytes() == 0 || b.nbytes() == 0 || a.device() != b.device()) return false;
  const auto* a_begin = static_cast<const char*>(a.const_data_ptr());
  const auto* b_begin = static_cast<const char*>(b.const_data_ptr());
  return a_begin < b_begin + b.nbytes() && b_begin < a_begin + a.nbytes();
}

/// What this rank can know of the rows; whether the others expect as many is the transport's to
/// compare.
void check_rows(const std::string& where, const at::Tensor& tensor,
                const std::vector<int64_t>& rows, int size, std::string_view role) {
  ISOBAR_CHECK(tensor.dim() > 0, where, role, " has no dimensions, so no rows");
  ISOBAR_CHECK(std::cmp_equal(rows.size(), size), where, role, "_rows has ", rows.size(),
               " entries, wanted one for each of ", size, " ranks");
  for (const auto count : rows) {
    ISOBAR_CHECK(count >= 0, where, role, "_rows has a negative entry, ", count);
  }
  const auto total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  ISOBAR_CHECK(total == tensor.size(0), where, role, "_rows add up to ", total, ", but ", role,
               " has ", tensor.size(0), " rows");
}

std::string prefix(OperationKind kind, int rank, int size) {
  return detail::join(to_string(kind), " on rank ", rank, " of ", size, ": ");
}

}  // namespace

Communicator::Communicator(int rank, int size, std::chrono::milliseconds timeout,
                           std::shared_ptr<FirstCause> cause)
    : rank_(rank),
      size_(size),
      timeout_(timeout),
      cause_(cause ? std::move(cause) : std::make_shared<FirstCause>()),
      census_(std::make_shared<CollectiveCensus>()) {
  ISOBAR_CHECK(size > 0 && rank >= 0 && rank < size, "Communicator: no rank ", rank, " of ", size);
  set_timeout(timeout);
}

Communicator::~Communicator() = default;

void Communicator::set_watch(std::unique_ptr<Watch> watch) { watch_ = std::move(watch); }

void Communicator::set_timeout(std::chrono::milliseconds timeout) {
  ISOBAR_CHECK(timeout.count() > 0, "Communicator: the time limit must be positive, got ",
               timeout.count(), " ms");
  timeout_ = timeout;
}

bool has_rounded_sums(at::ScalarType type) noexcept { return accumulation_type(type) != type; }

Work Communicator::allreduce(at::Tensor buffer, ReduceOp op) {
  return allreduce(std::move(buffer), ReduceOptions{.op = op});
}

Work Communicator::allreduce(at::Tensor buffer, const ReduceOptions& options) {
  check_tensor(OperationKind::allreduce, buffer, "buffer");
  check_divisor(OperationKind::allreduce, buffer, options);
  Operation operation;
  operation.kind = OperationKind::allreduce;
  operation.reduce = options.op;
  operation.divisor = options.divisor;
  operation.mark = options.mark;
  operation.output = std::move(buffer);
  return start(std::move(operation));
}

Work Communicator::reduce_scatter(at::Tensor output, at::Tensor input, ReduceOp op) {
  return reduce_scatter(std::move(output), std::move(input), ReduceOptions{.op = op});
}

Work Communicator::reduce_scatter(at::Tensor output, at::Tensor input,
                                  const ReduceOptions& options) {
  constexpr auto kKind = OperationKind::reduce_scatter;
  check_pair(kKind, output, input);
  check_divisor(kKind, output, options);
  ISOBAR_CHECK(input.numel() == size_ * output.numel(), prefix(kKind, rank_, size_), "input has ",
               input.numel(), " elements, wanted ", size_, " times the output's ", output.numel());
  Operation operation;
  operation.kind = kKind;
  operation.reduce = options.op;
  operation.divisor = options.divisor;
  operation.input = std::move(input);
  operation.output = std::move(output);
  operation.mark = options.mark;
  return start(std::move(operation));
}

Work Communicator::all_gather(at::Tensor output, at::Tensor input, const BucketMark& mark) {
  constexpr auto kKind = OperationKind::all_gather;
  check_pair(kKind, output, input);
  ISOBAR_CHECK(output.numel() == size_ * input.numel(), prefix(kKind, rank_, size_), "output has ",
               output.numel(), " elements, wanted ", size_, " times the input's ", input.numel());
  Operation operation;
  operation.kind = kKind;
  operation.input = std::move(input);
  operation.output = std::move(output);
  operation.mark = mark;
  return start(std::move(operation));
}

Work Communicator::all_to_all(at::Tensor output, at::Tensor input, std::vector<int64_t> output_rows,
                              std::vector<int64_t> input_rows, const BucketMark& mark) {
  constexpr auto kKind = OperationKind::all_to_all;
  const auto where = prefix(kKind, rank_, size_);
  check_pair(kKind, output, input);
  check_rows(where, output, output_rows, size_, "output");
  check_rows(where, input, input_rows, size_, "input");
  ISOBAR_CHECK(output.sizes().slice(1) == input.sizes().slice(1), where, "rows differ: output is ",
               output.sizes(), ", input is ", input.sizes());
  // A rank's own rows do not travel, so no transport would notice.
  ISOBAR_CHECK(output_rows[rank_] == input_rows[rank_], where, "this rank sends itself ",
               input_rows[rank_], " rows and expects ", output_rows[rank_]);
  Operation operation;
  operation.kind = kKind;
  operation.input = std::move(input);
  operation.output = std::move(output);
  operation.input_rows = std::move(input_rows);
  operation.output_rows = std::move(output_rows);
  operation.mark = mark;
  return start(std::move(operation));
}

Work Communicator::broadcast(at::Tensor buffer, int root, const BucketMark& mark) {
  constexpr auto kKind = OperationKind::broadcast;
  check_tensor(kKind, buffer, "buffer");
  ISOBAR_CHECK(root >= 0 && root < size_, prefix(kKind, rank_, size_), "no rank ", root,
               " to broadcast from");
  Operation operation;
  operation.kind = kKind;
  operation.output = std::move(buffer);
  operation.peer = root;
  operation.mark = mark;
  return start(std::move(operation));
}

Work Communicator::send(at::Tensor buffer, int peer, int tag) {
  check_tensor(OperationKind::send, buffer, "buffer");
  check_peer(OperationKind::send, peer);
  check_tag(OperationKind::send, tag);
  Operation operation;
  operation.kind = OperationKind::send;
  operation.input = std::move(buffer);
  operation.peer = peer;
  operation.tag = tag;
  return start(std::move(operation));
}

Work Communicator::receive(at::Tensor buffer, int peer, int tag) {
  check_tensor(OperationKind::receive, buffer, "buffer");
  check_peer(OperationKind::receive, peer);
  check_tag(OperationKind::receive, tag);
  Operation operation;
  operation.kind = OperationKind::receive;
  operation.output = std::move(buffer);
  operation.peer = peer;
  operation.tag = tag;
  return start(std::move(operation));
}

Work Communicator::barrier() { return start(Operation{}); }

std::unique_ptr<Communicator> Communicator::split(int color, int key) {
  cause_->check();
  auto part = do_split(color, key);
  // All ranks count splits alike, so the members of a part agree on what its watch is called.
  const auto split = splits_++;
  if (part && watch_) part->set_watch(watch_->split(split, color, part->rank(), part->size()));
  if (part) part->census_ = census_;
  return part;
}

void Communicator::abort(const std::string& reason) { do_abort(reason); }

// Where nobody else hears of the cause, the others find this rank missing when their limits pass.
void Communicator::do_abort(const std::string& reason) {
  cause_->record(detail::join("rank ", rank_, " of ", size_, ": ", reason));
}

Work Communicator::start(Operation operation) {
  cause_->check();
  const bool message = is_message(operation);
  auto& count = message ? messages_ : collectives_;
  operation.sequence = count;
  operation.timeout = timeout_;
  const bool watched = watch_ && !message;
  const bool counted = census_->is_counting() && size_ > 1;
  const auto call = counted ? CollectiveCensus::call_of(operation) : CollectiveCensus::Call{};
  auto work = do_start(watched ? operation : std::move(operation));
  // A call that the backend refuses is none, on every rank. The watch hears of a call only once it
  // is one: rank 0 would hold it against the others.
  ++count;
  if (watched) watch_->issued(operation);
  return counted ? census_->follow(call, std::move(work)) : work;
}

void Communicator::check_tensor(OperationKind kind, const at::Tensor& tensor,
                                std::string_view role) const {
  const auto where = prefix(kind, rank_, size_);
  ISOBAR_CHECK(tensor.defined(), where, role, " is an undefined tensor");
  ISOBAR_CHECK(tensor.layout() == at::kStrided, where, role, " is sparse; make it dense");
  ISOBAR_CHECK(tensor.is_contiguous(), where, role, " is not contiguous (shape ", tensor.sizes(),
               ", strides ", tensor.strides(), "); use contiguous()");
  const auto type = tensor.scalar_type();
  ISOBAR_CHECK(reduces(kind) ? can_reduce(type) : can_move(type), where, role, " is ",
               type_name(type), ", a type that this operation does not take");
}

void Communicator::check_divisor(OperationKind kind, const at::Tensor& tensor,
                                 const ReduceOptions& options) const {
  const auto divisor = static_cast<float>(options.divisor);  // as the ranks compare it
  const auto type = tensor.scalar_type();
  const auto where = prefix(kind, rank_, size_);
  ISOBAR_CHECK(divisor > 0 && std::isfinite(divisor), where,
               "the divisor must be positive and fit a float32, got ", options.divisor);
  ISOBAR_CHECK(divisor == 1 || (options.op == ReduceOp::sum && has_rounded_sums(type)), where,
               "only a sum of 16-bit floats is divided, got ", reduction_name(options.op, divisor),
               " of ", type_name(type), "; divide the result instead");
}

void Communicator::check_pair(OperationKind kind, const at::Tensor& output,
                              const at::Tensor& input) const {
  check_tensor(kind, output, "output");
  check_tensor(kind, input, "input");
  const auto where = prefix(kind, rank_, size_);
  ISOBAR_CHECK(output.scalar_type() == input.scalar_type(), where, "output is ",
               type_name(output.scalar_type()), ", input is ", type_name(input.scalar_type()));
  ISOBAR_CHECK(output.device() == input.device(), where, "output is on ", output.device(),
               ", input on ", input.device());
  ISOBAR_CHECK(!share_memory(output, input), where, "output and input share memory");
}

void Communicator::check_peer(OperationKind kind, int peer) const {
  ISOBAR_CHECK(peer >= 0 && peer < size_ && peer != rank_, prefix(kind, rank_, size_), "rank ",
               peer, " is not another rank");
}

void Communicator::check_tag(OperationKind kind, int tag) const {
  ISOBAR_CHECK(tag >= 0 && tag <= kMaxTag, prefix(kind, rank_, size_), "tag ", tag,
               " is not in 0..", kMaxTag);
}

}  // namespace isobar
