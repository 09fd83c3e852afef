// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/reduction.hpp>
#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "comm/backend/key_value.hpp"

namespace isobar {

struct GlooGroupOptions {
  int rank = 0;
  int size = 1;
  /// This rank's numeric address, at which the others reach it.
  std::string address;
  /// Where the ranks leave their addresses for each other, under `prefix`, which is of
  /// this group alone.
  std::shared_ptr<KeyValueStore> store;
  std::string prefix;
  std::chrono::milliseconds timeout{0};
};

/// One message on its way.
class GlooMessage {
 public:
  virtual ~GlooMessage() = default;
  /// Blocks until it has been sent or received. Throws std::exception.
  virtual void wait(std::chrono::milliseconds timeout) = 0;
};

/// Gloo as LibTorch holds it: the one place that knows its types. The collectives
/// are started in the order of the calls, and `done` is called on a thread of
/// Gloo's, with an empty text if all went well.
class GlooGroup {
 public:
  using Done = std::function<void(const std::string& error)>;

  virtual ~GlooGroup() = default;

  /// In place. Types: float32, float64 and integers of 8, 32 and 64 bits.
  virtual void allreduce(at::Tensor values, ReduceOp op, std::chrono::milliseconds timeout,
                         Done done) = 0;
  virtual void broadcast(at::Tensor bytes, int root, std::chrono::milliseconds timeout,
                         Done done) = 0;
  virtual void barrier(std::chrono::milliseconds timeout, Done done) = 0;

  /// Messages between two ranks are matched by tag, in the order of the calls.
  virtual std::unique_ptr<GlooMessage> send(at::Tensor bytes, int peer, int tag) = 0;
  virtual std::unique_ptr<GlooMessage> receive(at::Tensor bytes, int peer, int tag) = 0;
};

/// Collective; blocks until every rank is connected with every other.
std::shared_ptr<GlooGroup> make_gloo_group(const GlooGroupOptions& options);

/// True where isobar was built with Gloo.
bool has_gloo() noexcept;

}  // namespace isobar
