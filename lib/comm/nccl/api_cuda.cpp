// SPDX-License-Identifier: Apache-2.0
// The real table of calls. They come from the queue's threads, which have set the device, and from
// the thread that makes or ends a link. All but an abort are non-blocking: an answer of
// ncclInProgress is no error, and NcclLink asks again.
#include <isobar/core/error.hpp>
#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "comm/devices/torch_stream.hpp"
#include "comm/nccl/alias.hpp"
#include "comm/nccl/communicator.hpp"

namespace isobar {
namespace {

using c10::impl::VirtualGuardImpl;

/// The raw stream of the calling thread's device, which the queue's threads have set.
nccl::RawStream raw(DeviceStream stream) {
  const VirtualGuardImpl guard(c10::kCUDA);
  return nccl::raw_stream(c10::Stream(c10::Stream::UNSAFE, guard.getDevice(), stream));
}

ncclComm_t raw(NcclComm comm) { return reinterpret_cast<ncclComm_t>(comm); }

NcclStatus status_of(ncclResult_t result, ncclComm_t comm = nullptr) {
  if (result == ncclSuccess) return {};
  if (result == ncclInProgress) return {NcclResult::in_progress, {}};
  std::string message = ncclGetErrorString(result);
  const char* last = ncclGetLastError(comm);
  if (last != nullptr && *last != '\0') message += std::string(" (") + last + ")";
  return {NcclResult::error, message};
}

ncclDataType_t raw(NcclType type) {
  constexpr ncclDataType_t kTypes[] = {ncclInt8,    ncclUint8,    ncclInt32,   ncclInt64,
                                       ncclFloat16, ncclBfloat16, ncclFloat32, ncclFloat64};
  return kTypes[static_cast<int>(type)];
}

ncclRedOp_t raw(ReduceOp op) {
  if (op == ReduceOp::sum) return ncclSum;
  return op == ReduceOp::minimum ? ncclMin : ncclMax;
}

ncclConfig_t non_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

NcclStatus make_unique_id(std::vector<char>& id) {
  ncclUniqueId raw_id;
  const auto result = ncclGetUniqueId(&raw_id);
  id.assign(raw_id.internal, raw_id.internal + sizeof(raw_id.internal));
  return status_of(result);
}

/// Where NCCL may write; the slot outlives what is made in it.
ncclComm_t* raw(NcclSlot& slot) {
  static_assert(sizeof(slot.comm) == sizeof(ncclComm_t) &&
                decltype(slot.comm)::is_always_lock_free);
  return reinterpret_cast<ncclComm_t*>(&slot.comm);
}

NcclStatus init(NcclSlot& slot, int size, const std::vector<char>& id, int rank) {
  ncclUniqueId raw_id;
  if (id.size() != sizeof(raw_id.internal)) {
    return {NcclResult::error, detail::join("unique_id has ", id.size(), " bytes, wanted ",
                                            sizeof(raw_id.internal), " of make_nccl_unique_id()")};
  }
  std::memcpy(raw_id.internal, id.data(), id.size());
  auto config = non_blocking();
  return status_of(ncclCommInitRankConfig(raw(slot), size, raw_id, rank, &config));
}

NcclStatus split(NcclComm comm, int color, int key, NcclSlot& child) {
  auto config = non_blocking();
  const int raw_color = color < 0 ? NCCL_SPLIT_NOCOLOR : color;
  return status_of(ncclCommSplit(raw(comm), raw_color, key, raw(child), &config), raw(comm));
}

NcclStatus rank_and_size(NcclComm comm, int& rank, int& size) {
  auto status = status_of(ncclCommUserRank(raw(comm), &rank), raw(comm));
  if (status.result != NcclResult::success) return status;
  return status_of(ncclCommCount(raw(comm), &size), raw(comm));
}

NcclStatus async_status(NcclComm comm) {
  ncclResult_t state = ncclSuccess;
  const auto result = ncclCommGetAsyncError(raw(comm), &state);
  return status_of(result == ncclSuccess ? state : result, raw(comm));
}

void fill_communicators(NcclApi& api) {
  api.make_unique_id = make_unique_id;
  api.init = init;
  api.split = split;
  api.rank_and_size = rank_and_size;
  api.async_status = async_status;
  api.finalize = [](NcclComm comm) { return status_of(ncclCommFinalize(raw(comm)), raw(comm)); };
  api.destroy = [](NcclComm comm) { return status_of(ncclCommDestroy(raw(comm))); };
  api.abort = [](NcclComm comm) { return status_of(ncclCommAbort(raw(comm))); };
}

void fill_operations(NcclApi& api) {
  api.group_start = [] { return status_of(ncclGroupStart()); };
  api.group_end = [] { return status_of(ncclGroupEnd()); };
  api.allreduce = [](const void* in, void* out, int64_t count, NcclType type, ReduceOp op,
                     NcclComm comm, DeviceStream stream) {
    return status_of(ncclAllReduce(in, out, count, raw(type), raw(op), raw(comm), raw(stream)),
                     raw(comm));
  };
  api.reduce_scatter = [](const void* in, void* out, int64_t count, NcclType type, ReduceOp op,
                          NcclComm comm, DeviceStream stream) {
    return status_of(ncclReduceScatter(in, out, count, raw(type), raw(op), raw(comm), raw(stream)),
                     raw(comm));
  };
  api.all_gather = [](const void* in, void* out, int64_t bytes, NcclComm comm,
                      DeviceStream stream) {
    return status_of(ncclAllGather(in, out, bytes, ncclInt8, raw(comm), raw(stream)), raw(comm));
  };
  api.broadcast = [](void* buffer, int64_t bytes, int root, NcclComm comm, DeviceStream stream) {
    return status_of(ncclBroadcast(buffer, buffer, bytes, ncclInt8, root, raw(comm), raw(stream)),
                     raw(comm));
  };
  api.send = [](const void* in, int64_t bytes, int peer, NcclComm comm, DeviceStream stream) {
    return status_of(ncclSend(in, bytes, ncclInt8, peer, raw(comm), raw(stream)), raw(comm));
  };
  api.receive = [](void* out, int64_t bytes, int peer, NcclComm comm, DeviceStream stream) {
    return status_of(ncclRecv(out, bytes, ncclInt8, peer, raw(comm), raw(stream)), raw(comm));
  };
}

void fill_memory(NcclApi& api) {
  api.allocate = [](int device, DeviceStream stream, int64_t count, at::ScalarType type) {
    const c10::StreamGuard guard(torch_stream(device, stream));
    return at::empty({count}, at::TensorOptions().dtype(type).device(gpu(device)));
  };
  api.with_stream = [](int device, DeviceStream stream, const std::function<void()>& work) {
    const c10::StreamGuard guard(torch_stream(device, stream));
    work();
  };
  api.compute = api.with_stream;
}

std::shared_ptr<const NcclApi> real_api() {
  auto api = std::make_shared<NcclApi>();
  api->name = nccl::kBackend;
  fill_communicators(*api);
  fill_operations(*api);
  fill_device(*api);
  fill_memory(*api);
  return api;
}

/// One order of issue for each GPU of the process, whatever worlds use it: process-wide because the
/// GPU is. Never destroyed: threads that hang inside NCCL may outlive everything else.
std::shared_ptr<NcclQueue> queue_of(int device) {
  static auto* const mutex = new std::mutex;
  static auto* const queues = new std::map<int, std::weak_ptr<NcclQueue>>;
  static auto* const api = new std::shared_ptr<const NcclApi>(real_api());
  const std::lock_guard lock(*mutex);
  auto queue = (*queues)[device].lock();
  if (!queue || queue->has_stopped()) {
    queue = std::make_shared<NcclQueue>(*api, device);
    (*queues)[device] = queue;
  }
  return queue;
}

}  // namespace

std::vector<char> make_nccl_unique_id() {
  std::vector<char> id;
  const auto status = make_unique_id(id);
  if (status.result != NcclResult::success) {
    throw CommError("make_nccl_unique_id: " + status.message);
  }
  return id;
}

std::unique_ptr<Communicator> make_nccl_communicator(const NcclOptions& options,
                                                     std::shared_ptr<FirstCause> cause) {
  const VirtualGuardImpl guard(c10::kCUDA);
  const int devices = guard.deviceCount();
  ISOBAR_CHECK(options.device_index >= 0 && options.device_index < devices,
               "make_nccl_communicator on rank ", options.rank, " of ", options.size, ": no GPU ",
               options.device_index, ", this process sees ", devices,
               "; choose another device or ask the batch system for GPUs");
  return make_nccl_communicator(options, std::move(cause), queue_of(options.device_index));
}

}  // namespace isobar
