// SPDX-License-Identifier: Apache-2.0
#include "comm/backend.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "comm/element_type.hpp"

namespace isobar {

namespace {

/// How large a bucket is; of everything else, what it is.
std::string contents(const Operation& operation) {
  const int32_t bucket = operation.mark.bucket;
  if (bucket < 0) return operation.signature();
  const auto& buffer = operation.output;
  return detail::join("bucket ", bucket, ", ", type_name(buffer.scalar_type()), ", ",
                      format_bytes(static_cast<int64_t>(buffer.nbytes())));
}

}  // namespace

void BackendAccess::set_watch(Communicator& comm, std::unique_ptr<Watch> watch) {
  comm.set_watch(std::move(watch));
}

Work BackendAccess::start(Communicator& comm, Operation operation) {
  comm.set_timeout(operation.timeout);
  return comm.start(std::move(operation));
}

Work BackendAccess::forward(Communicator& comm, Operation operation) {
  const bool message =
      operation.kind == OperationKind::send || operation.kind == OperationKind::receive;
  auto& count = message ? comm.messages_ : comm.collectives_;
  count = std::max(count, operation.sequence);
  return start(comm, std::move(operation));
}

void BackendAccess::catch_up(Communicator& comm, const Communicator& carrier) {
  while (comm.collectives_ < carrier.collectives_) {
    Operation exchange;
    exchange.sequence = comm.collectives_++;
    if (comm.watch_) comm.watch_->issued(exchange);
  }
}

const std::shared_ptr<FirstCause>& BackendAccess::first_cause(const Communicator& comm) {
  return comm.first_cause();
}

std::string place(const Operation& operation, int rank, int size) {
  return detail::join(operation.name(), " on rank ", rank, " of ", size);
}

std::string in_words(std::chrono::milliseconds time) {
  if (time.count() < 1000) return detail::join(time.count(), " ms");
  return detail::join(static_cast<double>(time.count()) / 1000.0, " s");
}

std::string of_bucket(const BucketMark& mark) {
  if (mark.bucket < 0) return {};
  auto text = detail::join(" of bucket ", mark.bucket);
  if (mark.reducer >= 0) text += detail::join(", reducer ", mark.reducer);
  if (mark.step >= 0) text += detail::join(", step ", mark.step);
  if (mark.frozen > 0) text += detail::join(", ", mark.frozen, " of its parameters frozen");
  return text;
}

std::string timed_out(const Operation& operation, int rank, int size) {
  return detail::join(place(operation, rank, size), ": no answer in ", in_words(operation.timeout),
                      " (", contents(operation), ")");
}

void check_on_cpu(const Operation& operation, std::string_view backend) {
  for (const auto* tensor : {&operation.input, &operation.output}) {
    ISOBAR_CHECK(!tensor->defined() || tensor->is_cpu(), to_string(operation.kind),
                 ": the tensor is on ", tensor->device(), ", but backend ", backend,
                 " takes CPU tensors; move it with .cpu() or choose a backend for that device");
  }
}

Work complete_alone(const Operation& operation) {
  // Elsewhere results are written as plain memory; here too gradients must not be recorded.
  const at::NoGradGuard no_grad;
  if (operation.input.defined() && operation.output.defined()) {
    auto output = operation.output.detach().view({-1});
    output.copy_(operation.input.detach().view({-1}), /*non_blocking=*/true);
  }
  return Work();
}

int64_t row_bytes(const at::Tensor& tensor) {
  auto bytes = static_cast<int64_t>(tensor.element_size());
  for (int64_t d = 1; d < tensor.dim(); ++d) bytes *= tensor.size(d);
  return bytes;
}

SplitPlace agree_on_split(Communicator& comm, int color, int key) {
  auto mine = at::empty({2}, at::kLong);
  mine.data_ptr<int64_t>()[0] = color;
  mine.data_ptr<int64_t>()[1] = key;
  auto all = at::empty({comm.size(), 2}, at::kLong);
  comm.all_gather(all, mine).synchronize();

  const auto* entry = all.const_data_ptr<int64_t>();
  SplitPlace place;
  for (int r = 0; r < comm.size(); ++r, entry += 2) {
    if (entry[0] != color) continue;
    ++place.size;
    if (std::pair(entry[1], int64_t{r}) < std::pair(int64_t{key}, int64_t{comm.rank()}))
      ++place.rank;
  }
  return place;
}

}  // namespace isobar
