// SPDX-License-Identifier: Apache-2.0
// Debian's Gloo headers are older than the Gloo inside LibTorch: nothing but pointers to its types
// passes through here, and libgloo itself is never linked.
#include "bench/baselines/gloo_subject.hpp"

#include <isobar/core/error.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <netdb.h>
#include <unistd.h>

#include <array>
#include <chrono>

namespace isobar::bench {
namespace {

constexpr auto kLimit = std::chrono::minutes(5);

/// The numeric address from which this machine reaches `host`: connecting a datagram socket sends
/// nothing and asks the routes.
std::string own_address_towards(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), "9", &hints, &found);
  ISOBAR_CHECK(!failed, "gloo_bare: no address for '", host, "': ", gai_strerror(failed));
  const int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in own{};
  socklen_t length = sizeof(own);
  const bool known = connect(udp, found->ai_addr, found->ai_addrlen) == 0 &&
                     getsockname(udp, reinterpret_cast<sockaddr*>(&own), &length) == 0;
  close(udp);
  freeaddrinfo(found);
  ISOBAR_CHECK(known, "gloo_bare: no route to '", host, "'");
  std::array<char, INET_ADDRSTRLEN> text{};
  inet_ntop(AF_INET, &own.sin_addr, text.data(), text.size());
  return text.data();
}

c10::intrusive_ptr<c10d::Store> open_store(const GlooSubjectOptions& options) {
  c10d::TCPStoreOptions store;
  store.port = static_cast<uint16_t>(options.port);
  store.isServer = options.rank == 0;
  store.numWorkers = options.size;
  return c10::make_intrusive<c10d::TCPStore>(options.address, store);
}

class GlooSubject final : public Subject {
 public:
  explicit GlooSubject(const GlooSubjectOptions& options)
      : options_(options), store_(open_store(options)) {
    auto group = c10d::ProcessGroupGloo::Options::create(kLimit);
    group->devices.push_back(
        c10d::ProcessGroupGloo::createDeviceForHostname(own_address_towards(options.address)));
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, options.rank, options.size, group);
  }

  std::string backend() const override { return "gloo_bare"; }
  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }

  std::vector<std::string> gather(const std::string& text) override {
    const auto key = [this](int rank) {
      return "gather" + std::to_string(gathers_) + "/" + std::to_string(rank);
    };
    store_->set(key(rank()), std::vector<uint8_t>(text.begin(), text.end()));
    std::vector<std::string> texts;
    for (int i = 0; i < size(); ++i) {
      const auto bytes = store_->get(key(i));
      texts.emplace_back(bytes.begin(), bytes.end());
    }
    ++gathers_;
    return texts;
  }

  void barrier() override { group_->barrier()->wait(); }

  c10::intrusive_ptr<c10d::ProcessGroup> process_group() {
    auto group = c10::make_intrusive<c10d::ProcessGroup>(store_, rank(), size());
    group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, group_);
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    return group;
  }

  void start(const std::vector<Buffers>& flight) override {
    for (const auto& buffers : flight) start(buffers);
  }

  void wait() override {
    for (const auto& work : works_) work->wait();
    works_.clear();
  }

 private:
  void start(const Buffers& buffers) {
    if (options_.op == Collective::send_receive) return start_ring(buffers);
    works_.push_back(issue(buffers));
  }

  c10::intrusive_ptr<c10d::Work> issue(Buffers buffers) {
    std::vector<at::Tensor> whole{buffers.output};
    std::vector<int64_t> equal_parts;
    switch (options_.op) {
      case Collective::allreduce:
        return group_->allreduce(whole);
      case Collective::reduce_scatter:
        return group_->_reduce_scatter_base(buffers.output, buffers.input);
      case Collective::all_gather:
        return group_->_allgather_base(buffers.output, buffers.input);
      case Collective::all_to_all:
        return group_->alltoall_base(buffers.output, buffers.input, equal_parts, equal_parts);
      case Collective::broadcast:
        return group_->broadcast(whole);
      default:
        return group_->barrier();
    }
  }

  void start_ring(const Buffers& buffers) {
    std::vector<at::Tensor> input{buffers.input}, output{buffers.output};
    if (size() == 1) {
      output[0].copy_(input[0]);
      return;
    }
    works_.push_back(group_->recv(output, (rank() + size() - 1) % size(), 0));
    works_.push_back(group_->send(input, (rank() + 1) % size(), 0));
  }

  GlooSubjectOptions options_;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::vector<c10::intrusive_ptr<c10d::Work>> works_;
  int64_t gathers_ = 0;
};

}  // namespace

std::unique_ptr<Subject> make_gloo_subject(const GlooSubjectOptions& options) {
  return std::make_unique<GlooSubject>(options);
}

c10::intrusive_ptr<c10d::ProcessGroup> gloo_process_group(Subject& subject) {
  return dynamic_cast<GlooSubject&>(subject).process_group();
}

}  // namespace isobar::bench
