// SPDX-License-Identifier: Apache-2.0
#include "ddp/broadcast.hpp"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace isobar {
namespace {

constexpr int64_t kMessageBytes = 64 * 1024 * 1024;

void broadcast_packed(Communicator& comm, std::vector<at::Tensor>& tensors, int root) {
  if (tensors.empty()) return;
  std::vector<at::Tensor> flat;
  for (const auto& tensor : tensors) flat.push_back(tensor.reshape({-1}));
  auto message = at::cat(flat);
  comm.broadcast(message, root).wait();
  int64_t offset = 0;
  for (auto& tensor : tensors) {
    tensor.copy_(message.narrow(0, offset, tensor.numel()).view(tensor.sizes()));
    offset += tensor.numel();
  }
  tensors.clear();
}

}  // namespace

void broadcast_coalesced(Communicator& comm, const std::vector<at::Tensor>& tensors, int root) {
  if (comm.size() == 1) return;
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> pack;
  int64_t bytes = 0;
  for (const auto& tensor : tensors) {
    const bool fits =
        pack.empty() || (bytes + static_cast<int64_t>(tensor.nbytes()) <= kMessageBytes &&
                         tensor.scalar_type() == pack.back().scalar_type() &&
                         tensor.device() == pack.back().device());
    if (!fits) {
      broadcast_packed(comm, pack, root);
      bytes = 0;
    }
    pack.push_back(tensor.detach());
    bytes += static_cast<int64_t>(tensor.nbytes());
  }
  broadcast_packed(comm, pack, root);
}

}  // namespace isobar
