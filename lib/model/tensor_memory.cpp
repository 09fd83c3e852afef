// SPDX-License-Identifier: Apache-2.0
#include <isobar/model/tensor_memory.hpp>

#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <atomic>
#include <mutex>
#include <utility>

namespace isobar {
namespace {

/// Above the priority of every allocator of LibTorch's.
constexpr uint8_t kHookPriority = 100;

/// Sums over pools, which is what the statistics begin with.
constexpr size_t kAllPools = 0;

c10::DeviceAllocator* counting_allocator(c10::Device device) {
  return dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
}

}  // namespace

struct TensorMemory::Counts {
  std::atomic<int64_t> live{0};
  std::atomic<int64_t> peak{0};

  void add(int64_t bytes) {
    const int64_t now = live += bytes;
    int64_t most = peak.load();
    while (now > most && !peak.compare_exchange_weak(most, now)) {
    }
  }
};

struct CountingAllocator final : c10::Allocator {
  using Counts = TensorMemory::Counts;

  struct Block {
    c10::DataPtr data;
    int64_t bytes;
    std::shared_ptr<Counts> counts;
  };

  c10::DataPtr allocate(size_t bytes) override {
    if (!counts()) return below->allocate(bytes);
    auto held = std::make_unique<Block>(
        Block{below->allocate(bytes), static_cast<int64_t>(bytes), counts()});
    held->counts->add(held->bytes);
    void* const data = held->data.get();
    return {data, held.release(), &release, c10::Device(c10::kCPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  static void release(void* context) {
    const std::unique_ptr<Block> block(static_cast<Block*>(context));
    block->counts->live -= block->bytes;
  }

  /// This thread's.
  static std::shared_ptr<Counts>& counts() {
    static thread_local std::shared_ptr<Counts> counts;
    return counts;
  }

  /// Never taken away again: tensors of any thread may be on their way through it.
  static void install() {
    static std::once_flag once;
    std::call_once(once, [] { c10::SetCPUAllocator(new CountingAllocator, kHookPriority); });
  }

  c10::Allocator* const below = c10::GetCPUAllocator();
};

TensorMemory::TensorMemory(c10::Device device) : device_(device) {
  if (device.is_cpu()) {
    CountingAllocator::install();
    counts_ = std::make_shared<Counts>();
    outer_ = std::exchange(CountingAllocator::counts(), counts_);
  }
  restart();
}

TensorMemory::~TensorMemory() {
  if (counts_) CountingAllocator::counts() = outer_;
}

int64_t TensorMemory::live() const {
  if (counts_) return counts_->live;
  auto* const allocator = counting_allocator(device_);
  return allocator ? allocator->getDeviceStats(device_.index()).allocated_bytes[kAllPools].current
                   : -1;
}

int64_t TensorMemory::peak() const {
  if (counts_) return counts_->peak;
  auto* const allocator = counting_allocator(device_);
  return allocator ? allocator->getDeviceStats(device_.index()).allocated_bytes[kAllPools].peak
                   : -1;
}

void TensorMemory::restart() {
  if (counts_) {
    counts_->peak = counts_->live.load();
  } else if (auto* const allocator = counting_allocator(device_)) {
    allocator->resetPeakStats(device_.index());
  }
}

}  // namespace isobar
