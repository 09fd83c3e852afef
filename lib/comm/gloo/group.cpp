// SPDX-License-Identifier: Apache-2.0
// The only source that sees Gloo's types. Debian's headers are older than the Gloo inside LibTorch:
// nothing but pointers to its types passes through here, and libgloo itself is never linked. Calls
// come from the communicator's caller and from its schedules' threads; `done` runs on a thread of
// Gloo's, or at once where the work has ended.
#include "comm/gloo/group.hpp"

#include <isobar/core/error.hpp>

#include <ATen/ops/zeros.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <csignal>
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "comm/backend/short_slices.hpp"

namespace isobar {
namespace {

/// One operation of Gloo's at a time waits on the network, the next is ready behind it.
constexpr int kGlooThreads = 2;

c10d::ReduceOp gloo_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return c10d::ReduceOp::SUM;
    case ReduceOp::minimum:
      return c10d::ReduceOp::MIN;
    case ReduceOp::maximum:
      return c10d::ReduceOp::MAX;
  }
  return c10d::ReduceOp::UNUSED;
}

/// What Gloo needs of a store to connect its ranks. LibTorch's own TCP store asks the name server
/// for every peer's name, only to log it, and takes seconds for that where there is none.
class Store final : public c10d::Store {
 public:
  Store(std::shared_ptr<KeyValueStore> values, std::string prefix,
        std::chrono::milliseconds timeout)
      : c10d::Store(timeout), values_(std::move(values)), prefix_(std::move(prefix)) {}

  using c10d::Store::set;
  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    values_->set(prefix_ + key, {value.begin(), value.end()});
  }
  std::vector<uint8_t> get(const std::string& key) override {
    const auto value = take(key);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override {
    for (const auto& key : keys) {
      auto value = values_->get(prefix_ + key, timeout);
      const std::lock_guard lock(mutex_);
      awaited_[key] = std::move(value);
    }
  }

  c10::intrusive_ptr<c10d::Store> clone() override {
    return c10::make_intrusive<Store>(values_, prefix_, timeout_);
  }
  int64_t add(const std::string&, int64_t) override { return refuse("add"); }
  bool deleteKey(const std::string&) override { return refuse("deleteKey") != 0; }
  bool check(const std::vector<std::string>&) override { return refuse("check") != 0; }
  int64_t getNumKeys() override { return refuse("getNumKeys"); }
  std::vector<std::string> listKeys() override { return {std::to_string(refuse("listKeys"))}; }

 private:
  /// Gloo waits for a key and then gets it, once: it is asked for once, too.
  std::string take(const std::string& key) {
    {
      const std::lock_guard lock(mutex_);
      if (auto known = awaited_.extract(key)) return std::move(known.mapped());
    }
    return values_->get(prefix_ + key, timeout_);
  }

  [[noreturn]] static int64_t refuse(const char* call) {
    throw CommError(detail::join("backend gloo: this LibTorch wants ", call,
                                 " of its store, which isobar's does not have"));
  }

  std::shared_ptr<KeyValueStore> values_;
  std::string prefix_;
  std::mutex mutex_;
  std::map<std::string, std::string> awaited_;
};

class GlooWorkMessage final : public GlooMessage {
 public:
  explicit GlooWorkMessage(c10::intrusive_ptr<c10d::Work> work) : work_(std::move(work)) {}
  void wait(std::chrono::milliseconds timeout) override { work_->wait(timeout); }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
};

/// LibTorch records each operation that is queued in a table of the whole process, and takes no
/// lock for part of it; queueing is short.
std::mutex& queueing() {
  static std::mutex mutex;
  return mutex;
}

/// Gloo writes to sockets without asking for an error instead of SIGPIPE, which ends a program
/// whose peer has died. A handler of the program's own stays.
void ignore_broken_pipes() {
  struct sigaction now {};
  if (sigaction(SIGPIPE, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) return;
  now.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &now, nullptr);
}

/// What a rank leaves for the others is then its address alone, and no number for each of them:
/// Gloo asks the environment. A value of the user's stays.
void leave_short_addresses() {
  static const int once = setenv("GLOO_ENABLE_RANK_AS_SEQUENCE_NUMBER", "1", /*overwrite=*/0);
  static_cast<void>(once);
}

/// Calls `done` once `work` has ended; at once where it has.
void when_done(const c10::intrusive_ptr<c10d::Work>& work, GlooGroup::Done done) {
  work->getFuture()->addCallback([done = std::move(done)](c10::ivalue::Future& future) {
    done(future.hasError() ? future.tryRetrieveErrorMessage() : std::string());
  });
}

class Group final : public GlooGroup {
 public:
  explicit Group(const GlooGroupOptions& options) {
    const ShortSlices slices;  // for Gloo's threads, which start here
    auto gloo = c10d::ProcessGroupGloo::Options::create(options.timeout);
    gloo->threads = kGlooThreads;
    gloo->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(options.address));
    const auto store = c10::make_intrusive<Store>(options.store, options.prefix, options.timeout);
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store, options.rank, options.size, gloo);
    // A rank that leaves before another is connected would be taken for one that died.
    std::vector<at::Tensor> token{at::zeros({1}, at::kByte)};
    start([&] { return group_->allreduce(token); })->wait();
  }

  void allreduce(at::Tensor values, ReduceOp op, std::chrono::milliseconds timeout,
                 Done done) override {
    c10d::AllreduceOptions options;
    options.reduceOp = gloo_op(op);
    options.timeout = timeout;
    std::vector<at::Tensor> tensors{std::move(values)};
    when_done(start([&] { return group_->allreduce(tensors, options); }), std::move(done));
  }

  void broadcast(at::Tensor bytes, int root, std::chrono::milliseconds timeout,
                 Done done) override {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.timeout = timeout;
    std::vector<at::Tensor> tensors{std::move(bytes)};
    when_done(start([&] { return group_->broadcast(tensors, options); }), std::move(done));
  }

  void barrier(std::chrono::milliseconds timeout, Done done) override {
    c10d::BarrierOptions options;
    options.timeout = timeout;
    when_done(start([&] { return group_->barrier(options); }), std::move(done));
  }

  std::unique_ptr<GlooMessage> send(at::Tensor bytes, int peer, int tag) override {
    std::vector<at::Tensor> tensors{std::move(bytes)};
    return std::make_unique<GlooWorkMessage>(group_->send(tensors, peer, tag));
  }

  std::unique_ptr<GlooMessage> receive(at::Tensor bytes, int peer, int tag) override {
    std::vector<at::Tensor> tensors{std::move(bytes)};
    return std::make_unique<GlooWorkMessage>(group_->recv(tensors, peer, tag));
  }

 private:
  template <typename Call>
  static c10::intrusive_ptr<c10d::Work> start(const Call& call) {
    const std::lock_guard lock(queueing());
    return call();
  }

  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

}  // namespace

std::shared_ptr<GlooGroup> make_gloo_group(const GlooGroupOptions& options) {
  ignore_broken_pipes();
  leave_short_addresses();
  try {
    return std::make_shared<Group>(options);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw CommError(detail::join("backend gloo on rank ", options.rank, " of ", options.size,
                                 " at address ", options.address,
                                 ": cannot connect the ranks: ", text.substr(0, text.find('\n'))));
  }
}

bool has_gloo() noexcept { return true; }

}  // namespace isobar
