// SPDX-License-Identifier: Apache-2.0
// Counts what tensors of one thread take: set-ups measure with it, and ask how large a device is.
// On the CPU it puts an allocator over LibTorch's: a thread that is counted enters its blocks in a
// table, and whichever thread frees one takes it out.
//
// A part of the table that is empty is not locked, so that blocks of threads without a count cost a
// load. That is safe: whoever frees a counted block has got it, by whatever way, from the thread
// that entered it, and so sees a size that has it in. A block leaves the table before its memory is
// freed: afterwards another thread might have its address already, and would lose its own entry.
#include <isobar/model/tensor_memory.hpp>

#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>
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

/// Who counts which block, for all threads. Blocks are spread over parts, each with a lock of its
/// own; a part that holds none, which is all that threads without a count ever see, costs a
/// comparison.
class CountedBlocks {
 public:
  using Counts = TensorMemory::Counts;

  void add(const void* data, int64_t bytes, const std::shared_ptr<Counts>& counts) {
    Part& part = part_of(data);
    const std::scoped_lock lock(part.mutex);
    part.blocks.insert_or_assign(data, Block{bytes, counts});
    part.size = part.blocks.size();
    counts->add(bytes);
  }

  /// What is not counted is left alone. Called before the block is freed, so that no other can
  /// have its address.
  void remove(const void* data) {
    Part& part = part_of(data);
    if (part.size == 0) return;
    const std::scoped_lock lock(part.mutex);
    const auto found = part.blocks.find(data);
    if (found == part.blocks.end()) return;
    found->second.counts->live -= found->second.bytes;
    part.blocks.erase(found);
    part.size = part.blocks.size();
  }

 private:
  struct Block {
    int64_t bytes;
    std::shared_ptr<Counts> counts;
  };
  struct Part {
    std::mutex mutex;
    std::atomic<size_t> size{0};
    std::unordered_map<const void*, Block> blocks;
  };
  static constexpr size_t kParts = 64;
  static constexpr unsigned kAlignmentBits = 6;  // of LibTorch's blocks

  Part& part_of(const void* data) {
    return parts_[(reinterpret_cast<uintptr_t>(data) >> kAlignmentBits) % kParts];
  }

  std::array<Part, kParts> parts_;
};

/// Its blocks are those of the allocator below, data and context alike: LibTorch and oneDNN ask for
/// some by raw_allocate(), which allows no other context, and give back by raw_deallocate() what
/// may be older than the hook. What is known of a block therefore lies beside it, in a table.
struct CountingAllocator final : c10::Allocator {
  using Counts = TensorMemory::Counts;

  c10::DataPtr allocate(size_t bytes) override {
    void* const data = below->raw_allocate(bytes);
    const auto& counting = counts();
    if (counting && data) blocks().add(data, static_cast<int64_t>(bytes), counting);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  static void release(void* data) {
    blocks().remove(data);
    installed->below->raw_deallocate(data);
  }

  /// This thread's.
  static std::shared_ptr<Counts>& counts() {
    static thread_local std::shared_ptr<Counts> counts;
    return counts;
  }

  /// Never destroyed: tensors may outlive all other objects.
  static CountedBlocks& blocks() {
    static auto* const blocks = new CountedBlocks;
    return *blocks;
  }

  /// Never taken away again: tensors of any thread may be on their way through it. False where a
  /// program has an allocator of its own whose blocks are not their own context.
  static bool install() {
    static std::once_flag once;
    std::call_once(once, [] {
      if (!c10::GetCPUAllocator()->raw_deleter()) return;
      installed = new CountingAllocator;
      c10::SetCPUAllocator(installed, kHookPriority);
    });
    return installed != nullptr;
  }

  c10::Allocator* const below = c10::GetCPUAllocator();
  static inline CountingAllocator* installed = nullptr;
};

TensorMemory::TensorMemory(c10::Device device) : device_(device) {
  if (device.is_cpu() && CountingAllocator::install()) {
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

int64_t TensorMemory::capacity(c10::Device device) {
  auto* const allocator = device.is_cpu() ? nullptr : counting_allocator(device);
  return allocator ? static_cast<int64_t>(allocator->getMemoryInfo(device.index()).second) : 0;
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
