// SPDX-License-Identifier: Apache-2.0
#include "ddp/broadcast.hpp"

#include "ddp/tensor_bits.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace isobar {
namespace {

constexpr int64_t kMessageBytes = 64 * 1024 * 1024;

int64_t bytes_in(const at::Tensor& tensor) {
  return tensor.numel() * static_cast<int64_t>(tensor.element_size());
}

// As bytes, so that types which no transport knows travel too. Those of a message are of one
// type: each then starts where its type may be read.
void broadcast_packed(Communicator& comm, std::vector<at::Tensor>& tensors, int root,
                      const BucketMark& mark) {
  if (tensors.empty()) return;
  std::vector<at::Tensor> flat;
  for (const auto& tensor : tensors) flat.push_back(raw_bytes(tensor));
  auto message = at::cat(flat);
  comm.broadcast(message, root, mark).wait();
  int64_t offset = 0;
  for (auto& tensor : tensors) {
    set_raw_bytes(tensor, message.narrow(0, offset, bytes_in(tensor)));
    offset += bytes_in(tensor);
  }
  tensors.clear();
}

}  // namespace

void broadcast_coalesced(Communicator& comm, const std::vector<at::Tensor>& tensors, int root,
                         const BucketMark& mark) {
  if (comm.size() == 1) return;
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> pack;
  int64_t bytes = 0;
  const auto add = [&](const at::Tensor& part) {
    const bool fits = pack.empty() || (bytes + bytes_in(part) <= kMessageBytes &&
                                       part.scalar_type() == pack.back().scalar_type() &&
                                       part.device() == pack.back().device());
    if (!fits) {
      broadcast_packed(comm, pack, root, mark);
      bytes = 0;
    }
    pack.push_back(part);
    bytes += bytes_in(part);
  };
  for (const auto& tensor : tensors) {
    for (const auto& part : parts_of(tensor)) add(part);
  }
  broadcast_packed(comm, pack, root, mark);
}

}  // namespace isobar
