// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl_double.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace isobar::test {
namespace {

constexpr NcclStatus kInProgress() { return {NcclResult::in_progress, {}}; }

at::ScalarType scalar_type(NcclType type) {
  constexpr at::ScalarType kTypes[] = {at::kChar, at::kByte,     at::kInt,   at::kLong,
                                       at::kHalf, at::kBFloat16, at::kFloat, at::kDouble};
  return kTypes[static_cast<int>(type)];
}

at::Tensor view_of(const void* memory, int64_t count, NcclType type) {
  return at::from_blob(const_cast<void*>(memory), {count}, scalar_type(type));
}

thread_local DeviceStream current_stream = 0;
thread_local bool is_capturing = false;

/// One rank's part of a collective.
struct Part {
  std::string kind;
  const void* in = nullptr;
  void* out = nullptr;
  int64_t count = 0;
  NcclType type = NcclType::int8;
  ReduceOp op = ReduceOp::sum;
  int root = 0;
};

at::Tensor combined(const at::Tensor& a, const at::Tensor& b, ReduceOp op) {
  if (op == ReduceOp::sum) return a + b;
  return op == ReduceOp::minimum ? at::minimum(a, b) : at::maximum(a, b);
}

/// As a ring does it: the values at the i-th of size() parts begin at rank i + 1.
at::Tensor ring_reduce(const std::vector<Part>& parts, int64_t count) {
  const auto size = static_cast<int64_t>(parts.size());
  const auto chunk = (count + size - 1) / size;
  std::vector<at::Tensor> chunks;
  for (int64_t c = 0; c * chunk < count; ++c) {
    const auto of = [&](int64_t r) {
      const auto& part = parts[r % size];
      return view_of(part.in, count, part.type).slice(0, c * chunk, (c + 1) * chunk);
    };
    auto total = of(c + 1).clone();
    for (int64_t r = 2; r <= size; ++r) total = combined(total, of(c + r), parts[0].op);
    chunks.push_back(total);
  }
  return at::cat(chunks);
}

void carry_out(const std::vector<Part>& parts) {
  const auto& first = parts.front();
  const auto size = static_cast<int64_t>(parts.size());
  if (first.kind == "allreduce") {
    const auto total = ring_reduce(parts, first.count);
    for (const auto& part : parts) view_of(part.out, part.count, part.type).copy_(total);
  } else if (first.kind == "reduce_scatter") {
    const auto total = ring_reduce(parts, size * first.count).view({size, -1});
    for (int64_t r = 0; r < size; ++r) {
      view_of(parts[r].out, first.count, first.type).copy_(total[r]);
    }
  } else if (first.kind == "all_gather") {
    for (int64_t from = 0; from < size; ++from) {
      for (const auto& to : parts) {
        auto* target = static_cast<char*>(to.out) + from * first.count;
        std::memmove(target, parts[from].in, first.count);
      }
    }
  } else {
    for (const auto& to : parts) std::memmove(to.out, parts[first.root].in, first.count);
  }
}

/// One side of a message.
struct Message {
  char* memory = nullptr;
  int64_t bytes = 0;
  bool done = false;
};
using MessagePtr = std::shared_ptr<Message>;

struct Meeting {
  std::vector<Part> parts;
  int arrived = 0;
  bool done = false;
  /// A rank has left before the end, and its memory is not there any more.
  bool is_broken = false;
};

struct Comm;
struct Device;

struct SplitCall {
  int color = 0;
  int key = 0;
  Comm* child = nullptr;
};

struct Group {
  int id = 0;
  int size = 0;
  int joined = 0;
  std::map<int64_t, Meeting> meetings;
  /// By (from, to): what has no counterpart yet, of sends and of receives.
  std::map<std::pair<int, int>, std::deque<MessagePtr>> sends, receives;
  std::map<int64_t, std::map<int, SplitCall>> splits;
};

struct Flag {
  bool up = false;
};

/// A communicator of one rank.
struct Comm {
  Device* device = nullptr;
  std::shared_ptr<Group> group;
  int rank = 0;
  int64_t collectives = 0;
  int64_t splits = 0;
  int unfinished = 0;
  bool aborted = false;
  bool gone = false;
  std::string error;
  int answers = 0;
  /// Taken by NCCL, and not on the stream yet.
  std::vector<std::function<void()>> pending;
  std::function<bool()> ready;
  /// Comes late: after the answer that the split has succeeded.
  std::function<void()> fill_slot;
  std::chrono::steady_clock::time_point not_before;
};

/// A thread that takes what is put on it in order.
struct Stream {
  std::deque<std::function<void()>> work;
  bool stop = false;
  std::thread thread;
};

struct Device {
  int rank = 0;
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<std::string> issued;
  int operations = 0;
  int at_once = 0;
  int most_at_once = 0;
  /// Between group_start and group_end.
  bool grouping = false;
  Comm* grouped_comm = nullptr;
  DeviceStream grouped_stream = 0;
  std::vector<std::pair<std::pair<int, bool>, MessagePtr>> grouped;
};

}  // namespace

struct NcclDouble::Fabric : std::enable_shared_from_this<NcclDouble::Fabric> {
  NcclFaults faults;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<std::unique_ptr<Comm>> comms;
  std::map<std::vector<char>, std::shared_ptr<Group>> worlds;
  std::vector<std::string> violations;
  int groups = 0;
  bool released = false;

  using Lock = std::unique_lock<std::mutex>;

  Comm* from(NcclComm handle) {
    auto* comm = reinterpret_cast<Comm*>(handle);
    if (comm->gone) violations.push_back("a call on a communicator that is gone");
    return comm;
  }

  Comm* add_comm(Device& device, std::shared_ptr<Group> group, int rank) {
    auto& comm = comms.emplace_back(std::make_unique<Comm>());
    comm->device = &device;
    comm->group = std::move(group);
    comm->rank = rank;
    comm->not_before = std::chrono::steady_clock::now() + faults.init_delay;
    return comm.get();
  }

  std::shared_ptr<Group> add_group(int size) {
    auto group = std::make_shared<Group>();
    group->id = groups++;
    group->size = size;
    return group;
  }

  void run_stream(Stream& stream) {
    at::set_num_threads(1);
    Lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stream.stop || !stream.work.empty(); });
      if (stream.work.empty()) return;
      auto work = std::move(stream.work.front());
      stream.work.pop_front();
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
    }
  }

  DeviceStream add_stream(Device& device) {
    const Lock lock(mutex);
    auto& stream = *device.streams.emplace_back(std::make_unique<Stream>());
    stream.thread = std::thread([this, &stream] { run_stream(stream); });
    return static_cast<DeviceStream>(device.streams.size());  // 0 is the host
  }

  void put(Device& device, DeviceStream stream, std::function<void()> work) {
    device.streams.at(stream - 1)->work.push_back(std::move(work));
    changed.notify_all();
  }

  // --- events

  DeviceEvent record(Device& device, DeviceStream stream) {
    const Lock lock(mutex);
    auto flag = std::make_shared<Flag>();
    if (stream == 0) {
      flag->up = true;
    } else {
      put(device, stream, [this, flag] { raise(*flag); });
    }
    return flag;
  }

  void raise(Flag& flag) {
    const Lock lock(mutex);
    flag.up = true;
    changed.notify_all();
  }

  void wait_for(const Flag& flag) {
    Lock lock(mutex);
    changed.wait_for(lock, std::chrono::seconds(30), [&] { return flag.up || released; });
  }

  void block(Device& device, DeviceStream stream, const DeviceEvent& event) {
    const auto flag = std::static_pointer_cast<Flag>(event);
    if (stream == 0) return wait_for(*flag);
    const Lock lock(mutex);
    put(device, stream, [this, flag] { wait_for(*flag); });
  }

  // --- kernels

  /// Counts the operation; false where its fault is to hang.
  bool begins_well(Comm& comm, int number) {
    const int rank = comm.device->rank;
    if (rank == faults.failing_rank && number == faults.failing_operation) {
      comm.error = "remote process exited or there was a network error";
      return false;
    }
    return !(rank == faults.hanging_rank && number == faults.hanging_operation);
  }

  NcclStatus launch(Comm& comm, DeviceStream stream, const std::string& what,
                    std::function<void(Lock&)> kernel) {
    auto& device = *comm.device;
    device.issued.push_back(what + " on " + std::to_string(comm.group->id));
    const int number = device.operations++;
    ++comm.unfinished;
    auto run = [this, &comm, &device, number, kernel = std::move(kernel)] {
      Lock lock(mutex);
      device.most_at_once = std::max(device.most_at_once, ++device.at_once);
      if (begins_well(comm, number)) {
        kernel(lock);
      } else {
        changed.wait(lock, [&] { return left(comm); });
      }
      --device.at_once;
      --comm.unfinished;
      changed.notify_all();
    };
    comm.answers = faults.answers_in_progress;
    comm.pending.push_back([this, &device, stream, run] { put(device, stream, run); });
    if (comm.answers > 0) return kInProgress();
    flush(comm);
    return {};
  }

  void flush(Comm& comm) {
    for (auto& put_on_stream : comm.pending) put_on_stream();
    comm.pending.clear();
  }

  bool left(const Comm& comm) const { return comm.aborted || released; }

  NcclStatus collective(NcclComm handle, DeviceStream stream, const Part& part) {
    Lock lock(mutex);
    auto& comm = *from(handle);
    changed.wait(lock, [&] { return released || faults.stuck_rank != comm.device->rank; });
    const auto number = comm.collectives++;
    return launch(comm, stream, part.kind, [this, &comm, part, number](Lock& held) {
      auto& meeting = comm.group->meetings[number];
      meeting.parts.resize(comm.group->size);
      meeting.parts[comm.rank] = part;
      if (++meeting.arrived == comm.group->size && !meeting.is_broken) {
        carry_out(meeting.parts);
        meeting.done = true;
        changed.notify_all();
      }
      changed.wait(held, [&] { return meeting.done || left(comm); });
      meeting.is_broken = !meeting.done;
    });
  }

  NcclStatus message(NcclComm handle, DeviceStream stream, int peer, bool send, void* memory,
                     int64_t bytes) {
    const Lock lock(mutex);
    auto& comm = *from(handle);
    auto& device = *comm.device;
    if (!device.grouping) violations.push_back("a message outside a group");
    device.grouped_comm = &comm;
    device.grouped_stream = stream;
    auto one = std::make_shared<Message>(Message{static_cast<char*>(memory), bytes});
    device.grouped.push_back({{peer, send}, std::move(one)});
    return {};
  }

  NcclStatus group_start(Device& device) {
    const Lock lock(mutex);
    if (std::exchange(device.grouping, true)) violations.push_back("a group in a group");
    return {};
  }

  NcclStatus group_end(Device& device) {
    const Lock lock(mutex);
    device.grouping = false;
    auto messages = std::exchange(device.grouped, {});
    if (messages.empty()) return {};
    auto& comm = *device.grouped_comm;
    return launch(comm, device.grouped_stream, "messages",
                  [this, &comm, messages = std::move(messages)](Lock& held) {
                    for (const auto& [side, one] : messages) post(comm, side, one);
                    changed.notify_all();
                    changed.wait(held, [&] { return left(comm) || all_done(messages); });
                    for (const auto& [side, one] : messages) withdraw(comm, side, one);
                  });
  }

  static std::deque<MessagePtr>& waiting(Comm& comm, const std::pair<int, bool>& side) {
    const auto [peer, send] = side;
    return send ? comm.group->sends[{comm.rank, peer}] : comm.group->receives[{peer, comm.rank}];
  }

  /// Where it still waits for its counterpart: its memory goes.
  void withdraw(Comm& comm, const std::pair<int, bool>& side, const MessagePtr& one) {
    std::erase(waiting(comm, side), one);
  }

  template <typename Messages>
  static bool all_done(const Messages& messages) {
    return std::all_of(messages.begin(), messages.end(),
                       [](const auto& entry) { return entry.second->done; });
  }

  void post(Comm& comm, const std::pair<int, bool>& side, const MessagePtr& one) {
    const auto [peer, send] = side;
    const auto pair = send ? std::pair(comm.rank, peer) : std::pair(peer, comm.rank);
    auto& mine = waiting(comm, side);
    auto& theirs = send ? comm.group->receives[pair] : comm.group->sends[pair];
    if (theirs.empty()) return mine.push_back(one);
    const auto other = theirs.front();
    theirs.pop_front();
    if (other->bytes != one->bytes) comm.error = "message of another size";
    const auto& from = send ? *one : *other;
    std::memcpy((send ? other : one)->memory, from.memory, std::min(one->bytes, other->bytes));
    one->done = other->done = true;
  }

  // --- communicators

  NcclStatus init(Device& device, NcclSlot& slot, int size, const std::vector<char>& id, int rank) {
    const Lock lock(mutex);
    auto& group = worlds[id];
    if (!group) group = add_group(size);
    auto* comm = add_comm(device, group, rank);
    ++group->joined;
    comm->ready = [group] { return group->joined == group->size; };
    slot.comm = reinterpret_cast<NcclComm>(comm);
    return kInProgress();
  }

  NcclStatus split(Device& device, NcclComm handle, int color, int key, NcclSlot& child) {
    const Lock lock(mutex);
    auto& parent = *from(handle);
    if (parent.unfinished > 0) violations.push_back("a split of a communicator in use");
    auto& calls = parent.group->splits[parent.splits++];
    auto* comm = color < 0 ? nullptr : add_comm(device, nullptr, 0);
    calls[parent.rank] = {color, key, comm};
    const auto all_came = [&calls, size = parent.group->size] {
      return std::cmp_equal(calls.size(), size);
    };
    if (all_came()) form(calls);
    parent.ready = all_came;
    if (comm) {
      comm->ready = all_came;
      parent.fill_slot = [&child, comm] { child.comm = reinterpret_cast<NcclComm>(comm); };
    }
    return kInProgress();
  }

  void form(std::map<int, SplitCall>& calls) {
    std::map<int, std::vector<std::pair<std::pair<int, int>, Comm*>>> colors;
    for (const auto& [rank, call] : calls) {
      if (call.color >= 0) colors[call.color].push_back({{call.key, rank}, call.child});
    }
    for (auto& [color, members] : colors) {
      std::sort(members.begin(), members.end());
      const auto group = add_group(static_cast<int>(members.size()));
      for (size_t r = 0; r < members.size(); ++r) {
        members[r].second->group = group;
        members[r].second->rank = static_cast<int>(r);
      }
    }
    changed.notify_all();
  }

  NcclStatus async_status(NcclComm handle) {
    const Lock lock(mutex);
    auto& comm = *from(handle);
    if (!comm.error.empty()) return {NcclResult::error, comm.error};
    if (comm.ready) {
      if (!comm.ready() || std::chrono::steady_clock::now() < comm.not_before) return kInProgress();
      comm.ready = nullptr;
      return {};
    }
    if (comm.fill_slot) std::exchange(comm.fill_slot, nullptr)();
    if (comm.answers > 0 && --comm.answers > 0) return kInProgress();
    flush(comm);
    return {};
  }

  NcclStatus finalize(NcclComm handle) {
    const Lock lock(mutex);
    auto& comm = *from(handle);
    comm.ready = [&comm] { return comm.unfinished == 0; };
    return kInProgress();
  }

  NcclStatus destroy(NcclComm handle) {
    const Lock lock(mutex);
    from(handle)->gone = true;
    return {};
  }

  NcclStatus abort(NcclComm handle) {
    Lock lock(mutex);
    auto& comm = *from(handle);
    if (faults.abort_hangs) changed.wait(lock, [this] { return released; });
    comm.aborted = comm.gone = true;
    changed.notify_all();
    return {};
  }

  NcclStatus rank_and_size(NcclComm handle, int& rank, int& size) {
    const Lock lock(mutex);
    const auto& comm = *from(handle);
    rank = comm.rank;
    size = comm.group->size;
    return {};
  }

  void release() {
    const Lock lock(mutex);
    released = true;
    changed.notify_all();
  }

  /// Everything that is on the streams ends first.
  void stop() {
    release();
    std::vector<Stream*> streams;
    {
      const Lock lock(mutex);
      for (auto& device : devices) {
        for (auto& stream : device->streams) streams.push_back(stream.get());
      }
      for (auto* stream : streams) stream->stop = true;
      changed.notify_all();
    }
    for (auto* stream : streams) stream->thread.join();
  }

  std::shared_ptr<const NcclApi> api(int rank);
};

std::shared_ptr<const NcclApi> NcclDouble::Fabric::api(int rank) {
  auto& device = *devices.at(rank);
  // The table keeps the fabric: a thread that an abort left behind may still use it.
  const auto self = shared_from_this();
  auto table = std::make_shared<NcclApi>();
  table->name = "nccl";
  table->device_type = at::kCPU;
  table->make_unique_id = [](std::vector<char>& id) {
    id.assign(4, 'x');
    return NcclStatus();
  };
  table->init = [self, &device](NcclSlot& slot, int size, const std::vector<char>& id, int r) {
    return self->init(device, slot, size, id, r);
  };
  table->split = [self, &device](NcclComm comm, int color, int key, NcclSlot& child) {
    return self->split(device, comm, color, key, child);
  };
  table->rank_and_size = [self](NcclComm comm, int& r, int& size) {
    return self->rank_and_size(comm, r, size);
  };
  table->async_status = [self](NcclComm comm) { return self->async_status(comm); };
  table->finalize = [self](NcclComm comm) { return self->finalize(comm); };
  table->destroy = [self](NcclComm comm) { return self->destroy(comm); };
  table->abort = [self](NcclComm comm) { return self->abort(comm); };
  table->group_start = [self, &device] { return self->group_start(device); };
  table->group_end = [self, &device] { return self->group_end(device); };
  table->allreduce = [self](const void* in, void* out, int64_t count, NcclType type, ReduceOp op,
                            NcclComm comm, DeviceStream stream) {
    return self->collective(comm, stream, {"allreduce", in, out, count, type, op});
  };
  table->reduce_scatter = [self](const void* in, void* out, int64_t count, NcclType type,
                                 ReduceOp op, NcclComm comm, DeviceStream stream) {
    return self->collective(comm, stream, {"reduce_scatter", in, out, count, type, op});
  };
  table->all_gather = [self](const void* in, void* out, int64_t bytes, NcclComm comm,
                             DeviceStream stream) {
    return self->collective(comm, stream, {"all_gather", in, out, bytes});
  };
  table->broadcast = [self](void* buffer, int64_t bytes, int root, NcclComm comm,
                            DeviceStream stream) {
    return self->collective(
        comm, stream, {"broadcast", buffer, buffer, bytes, NcclType::int8, ReduceOp::sum, root});
  };
  table->send = [self](const void* in, int64_t bytes, int peer, NcclComm comm,
                       DeviceStream stream) {
    return self->message(comm, stream, peer, true, const_cast<void*>(in), bytes);
  };
  table->receive = [self](void* out, int64_t bytes, int peer, NcclComm comm, DeviceStream stream) {
    return self->message(comm, stream, peer, false, out, bytes);
  };
  table->use_device = [](int) {};
  table->make_priority_stream = [self, &device](int) { return self->add_stream(device); };
  table->current_stream = [](int) { return current_stream; };
  table->is_capturing = [](int, DeviceStream) { return is_capturing; };
  table->record = [self, &device](int, DeviceStream stream) {
    return self->record(device, stream);
  };
  table->block = [self, &device](int, DeviceStream stream, const DeviceEvent& event) {
    self->block(device, stream, event);
  };
  table->reached = [self](const DeviceEvent& event) {
    const Lock lock(self->mutex);
    return std::static_pointer_cast<Flag>(event)->up;
  };
  table->allocate = [](int, DeviceStream, int64_t count, at::ScalarType type) {
    return at::full({count}, 77, type);  // whatever was there before
  };
  table->with_stream = [on_host = faults.tasks_on_host](int, DeviceStream stream,
                                                        const std::function<void()>& work) {
    const auto before = std::exchange(current_stream, on_host ? 0 : stream);
    try {
      work();
    } catch (...) {
      current_stream = before;
      throw;
    }
    current_stream = before;
  };
  table->compute = [self, &device](int, DeviceStream stream, std::function<void()> work) {
    const Lock lock(self->mutex);
    self->put(device, stream, std::move(work));
  };
  return table;
}

NcclDouble::NcclDouble(int size, const NcclFaults& faults) : fabric_(std::make_shared<Fabric>()) {
  fabric_->faults = faults;
  for (int r = 0; r < size; ++r) {
    fabric_->devices.push_back(std::make_unique<Device>());
    fabric_->devices.back()->rank = r;
  }
}

NcclDouble::~NcclDouble() { fabric_->stop(); }

std::shared_ptr<const NcclApi> NcclDouble::api(int rank) { return fabric_->api(rank); }

std::vector<std::string> NcclDouble::issued(int rank) const {
  const std::lock_guard lock(fabric_->mutex);
  return fabric_->devices.at(rank)->issued;
}

int NcclDouble::most_at_once(int rank) const {
  const std::lock_guard lock(fabric_->mutex);
  return fabric_->devices.at(rank)->most_at_once;
}

int NcclDouble::communicators() const {
  const std::lock_guard lock(fabric_->mutex);
  return static_cast<int>(std::count_if(fabric_->comms.begin(), fabric_->comms.end(),
                                        [](const auto& comm) { return !comm->gone; }));
}

std::vector<std::string> NcclDouble::violations() const {
  const std::lock_guard lock(fabric_->mutex);
  return fabric_->violations;
}

void NcclDouble::release() { fabric_->release(); }

CallerStream::CallerStream(NcclDouble& nccl, int rank)
    : api_(nccl.api(rank)), stream_(api_->make_priority_stream(0)) {
  current_stream = stream_;
}

CallerStream::~CallerStream() {
  current_stream = 0;
  is_capturing = false;
}

void CallerStream::capture(bool captures) { is_capturing = captures; }

void CallerStream::put(std::function<void()> work) { api_->compute(0, stream_, std::move(work)); }

namespace {

void run_rank(NcclDouble& nccl, const NcclOptions& options, std::shared_ptr<FirstCause> cause,
              const std::function<void(Communicator&)>& body) {
  at::set_num_threads(1);
  try {
    const auto queue = std::make_shared<NcclQueue>(nccl.api(options.rank), 0);
    body(*make_nccl_communicator(options, std::move(cause), queue));
  } catch (const std::exception& error) {
    ADD_FAILURE() << "rank " << options.rank << ": " << error.what();
  }
}

}  // namespace

void run_on_double(NcclDouble& nccl, int size, const DoubleWorldOptions& options,
                   const std::function<void(Communicator& world)>& body) {
  const auto shared = std::make_shared<FirstCause>();
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    NcclOptions of_rank;
    of_rank.rank = r;
    of_rank.size = size;
    of_rank.timeout = options.timeout;
    of_rank.unique_id = {'w'};
    of_rank.deterministic = options.deterministic;
    of_rank.serialise = options.serialise;
    of_rank.few_ranks = options.few_ranks;
    auto cause = options.causes == Causes::shared ? shared : std::make_shared<FirstCause>();
    threads.emplace_back(run_rank, std::ref(nccl), of_rank, std::move(cause), std::cref(body));
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace isobar::test
