// SPDX-License-Identifier: Apache-2.0
#include "comm/device_double.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/UniqueVoidPtr.h>

#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

namespace isobar::test {
namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;

thread_local DeviceStream current_stream = 0;
thread_local bool is_capturing = false;

struct Stream {
  std::deque<std::function<void()>> work;
  std::thread thread;
};

struct Flag {
  bool up = false;
};

}  // namespace

struct DeviceDouble::State : std::enable_shared_from_this<DeviceDouble::State> {
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::unique_ptr<Stream>> streams;
  bool stop = false;
  std::chrono::microseconds delay{0};
  std::array<bool, 2> held{};
  std::string error;
  int host_allocations = 0;
  int copies = 0;
  /// The memory of the device, and that of the host which the device knows.
  std::set<const void*> on_device, on_host;
  std::vector<std::string> violations;

  using Lock = std::unique_lock<std::mutex>;

  void run(Stream& stream) {
    at::set_num_threads(1);
    Lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stop || !stream.work.empty(); });
      if (stream.work.empty()) return;
      const auto work = std::move(stream.work.front());
      stream.work.pop_front();
      lock.unlock();
      work();
      lock.lock();
    }
  }

  DeviceStream add_stream() {
    const Lock lock(mutex);
    auto& stream = *streams.emplace_back(std::make_unique<Stream>());
    stream.thread = std::thread([this, &stream] { run(stream); });
    return static_cast<DeviceStream>(streams.size());  // 0 is the host
  }

  void put(DeviceStream stream, std::function<void()> work) {
    const Lock lock(mutex);
    streams.at(stream - 1)->work.push_back(std::move(work));
    changed.notify_all();
  }

  DeviceEvent record(DeviceStream stream) {
    auto flag = std::make_shared<Flag>();
    const auto raise = [this, flag] {
      const Lock lock(mutex);
      flag->up = true;
      changed.notify_all();
    };
    stream == 0 ? raise() : put(stream, raise);
    return flag;
  }

  void block(DeviceStream stream, const DeviceEvent& event) {
    const auto wait = [this, flag = std::static_pointer_cast<Flag>(event)] {
      Lock lock(mutex);
      changed.wait(lock, [&] { return flag->up || stop; });
    };
    stream == 0 ? wait() : put(stream, wait);
  }

  bool reached(const DeviceEvent& event) {
    const Lock lock(mutex);
    if (!error.empty()) throw std::runtime_error(error);
    return std::static_pointer_cast<Flag>(event)->up;
  }

  /// `known` has an entry for the memory while it lives.
  at::Storage make_storage(int64_t bytes, c10::Device device, std::set<const void*>& known) {
    auto* memory = new char[bytes > 0 ? bytes : 1];
    std::memset(memory, 77, bytes);  // whatever was there before
    {
      const Lock lock(mutex);
      known.insert(memory);
    }
    const auto release = [self = shared_from_this(), memory, &known](void*) {
      const Lock lock(self->mutex);
      known.erase(memory);
      delete[] memory;
    };
    auto data = c10::InefficientStdFunctionContext::makeDataPtr(memory, release, device);
    return {at::Storage::use_byte_size_t(), static_cast<size_t>(bytes), std::move(data)};
  }

  at::Tensor allocate(at::IntArrayRef sizes, at::ScalarType type) {
    const auto bytes = c10::multiply_integers(sizes) * static_cast<int64_t>(c10::elementSize(type));
    auto tensor = at::detail::make_tensor<c10::TensorImpl>(
        make_storage(bytes, c10::Device(kType, 0), on_device),
        c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::scalarTypeToTypeMeta(type));
    tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
    return tensor;
  }

  at::Tensor allocate_host(int64_t bytes) {
    {
      const Lock lock(mutex);
      ++host_allocations;
    }
    return at::empty({0}, at::kByte).set_(make_storage(bytes, at::kCPU, on_host), 0, {bytes}, {1});
  }

  // As a device does it, by addresses: it keeps nothing alive.
  void copy(DeviceStream stream, const at::Tensor& to, const at::Tensor& from) {
    const auto direction = to.is_cpu() ? Direction::to_host : Direction::to_device;
    const auto& host = to.is_cpu() ? to : from;
    const auto& device = to.is_cpu() ? from : to;
    put(stream, [this, direction, bytes = to.nbytes(), target = to.data_ptr(),
                 source = from.const_data_ptr(), host_memory = host.storage().data(),
                 device_memory = device.storage().data()] {
      Lock lock(mutex);
      changed.wait(lock, [&] { return stop || !held[static_cast<size_t>(direction)]; });
      const auto pause = delay;
      lock.unlock();
      if (pause.count() > 0) std::this_thread::sleep_for(pause);
      lock.lock();
      if (!error.empty()) return;
      if (!on_host.contains(host_memory)) violations.emplace_back("host memory that is not there");
      if (!on_device.contains(device_memory)) violations.emplace_back("memory that is not there");
      if (violations.empty()) std::memcpy(target, source, bytes);
    });
    const Lock lock(mutex);
    ++copies;
    changed.notify_all();
  }
};

DeviceDouble::DeviceDouble() : state_(std::make_shared<State>()) {}

DeviceDouble::~DeviceDouble() {
  {
    const State::Lock lock(state_->mutex);
    state_->stop = true;
    state_->changed.notify_all();
  }
  for (auto& stream : state_->streams) stream->thread.join();
}

std::shared_ptr<const StagingApi> DeviceDouble::api() const {
  auto api = std::make_shared<StagingApi>();
  const auto state = state_;
  api->device_type = kType;
  api->use_device = [](int) {};
  api->make_priority_stream = [state](int) { return state->add_stream(); };
  api->current_stream = [](int) { return current_stream; };
  api->is_capturing = [](int, DeviceStream) { return is_capturing; };
  api->record = [state](int, DeviceStream stream) { return state->record(stream); };
  api->block = [state](int, DeviceStream stream, const DeviceEvent& event) {
    state->block(stream, event);
  };
  api->reached = [state](const DeviceEvent& event) { return state->reached(event); };
  api->allocate_host = [state](int64_t bytes) { return state->allocate_host(bytes); };
  api->copy = [state](int, DeviceStream stream, const at::Tensor& to, const at::Tensor& from) {
    state->copy(stream, to, from);
  };
  return api;
}

at::Tensor DeviceDouble::put(const at::Tensor& host) const {
  auto tensor = state_->allocate(host.sizes(), host.scalar_type());
  if (host.nbytes() > 0) std::memcpy(tensor.data_ptr(), host.const_data_ptr(), host.nbytes());
  return tensor;
}

at::Tensor DeviceDouble::get(const at::Tensor& on_device) const {
  auto host = at::empty(on_device.sizes(), on_device.scalar_type());
  if (host.nbytes() > 0) std::memcpy(host.data_ptr(), on_device.const_data_ptr(), host.nbytes());
  return host;
}

void DeviceDouble::set_delay(std::chrono::microseconds delay) {
  const State::Lock lock(state_->mutex);
  state_->delay = delay;
}

void DeviceDouble::hold(Direction direction) {
  const State::Lock lock(state_->mutex);
  state_->held.at(static_cast<size_t>(direction)) = true;
}

void DeviceDouble::release() {
  const State::Lock lock(state_->mutex);
  state_->held = {};
  state_->changed.notify_all();
}

void DeviceDouble::await_copies(int count) const {
  State::Lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->copies >= count; });
}

void DeviceDouble::fail(const std::string& error) {
  const State::Lock lock(state_->mutex);
  state_->error = error;
}

int DeviceDouble::host_allocations() const {
  const State::Lock lock(state_->mutex);
  return state_->host_allocations;
}

std::vector<std::string> DeviceDouble::violations() const {
  const State::Lock lock(state_->mutex);
  return state_->violations;
}

Carrier carrier_of(const DeviceDouble& device) {
  return {.there = [&](const at::Tensor& host) { return device.put(host); },
          .back = [&](const at::Tensor& host,
                      const at::Tensor& on_device) { host.copy_(device.get(on_device)); },
          .fewest_ranks = 2};
}

DeviceStreamOfCaller::DeviceStreamOfCaller(DeviceDouble& device)
    : state_(device.state_), stream_(state_->add_stream()) {
  current_stream = stream_;
}

DeviceStreamOfCaller::~DeviceStreamOfCaller() {
  current_stream = 0;
  is_capturing = false;
}

void DeviceStreamOfCaller::put(std::function<void()> work) {
  state_->put(stream_, std::move(work));
}

void DeviceStreamOfCaller::capture(bool captures) { is_capturing = captures; }

void DeviceStreamOfCaller::synchronize() { state_->block(0, state_->record(stream_)); }

}  // namespace isobar::test
