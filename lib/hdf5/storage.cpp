// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/storage.hpp>

#include <isobar/hdf5/handle.hpp>
#include <ATen/ATen.h>
#include <hdf5.h>

#include <algorithm>
#include <limits>

namespace isobar {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Whether a chunk, named by its first element, is in the file. With filters that costs a look into
/// the index, which reading the chunk has just brought into memory. Without them HDF5 gives that
/// answer for chunks that are only in its cache, too, and its other way is a walk over the index:
/// taken where chunks are known to be missing.
bool is_written(hid_t dataset, const Storage& storage, const std::vector<hsize_t>& chunk) {
  hsize_t bytes = 0;
  if (storage.filtered) {
    return H5Dget_chunk_storage_size(dataset, chunk.data(), &bytes) >= 0 && bytes > 0;
  }
  unsigned mask = 0;
  haddr_t address = HADDR_UNDEF;
  return H5Dget_chunk_info_by_coord(dataset, chunk.data(), &mask, &address, &bytes) >= 0 &&
         address != HADDR_UNDEF;
}

hsize_t bytes_of_all_chunks(hid_t dataset, const VariableInfo& variable) {
  const Hdf5Handle type{H5Dget_type(dataset), H5Tclose};
  hsize_t bytes = type ? H5Tget_size(type.get()) : 0;
  for (std::size_t d = 0; d < variable.chunk.size(); ++d) {
    const int64_t chunk = variable.chunk[d];
    bytes *= static_cast<hsize_t>((variable.shape[d] + chunk - 1) / chunk * chunk);
  }
  return bytes;
}

/// The part of `values` that lies in the chunk that begins at `chunk`.
at::Tensor part_in(const at::Tensor& values, const VariableInfo& variable,
                   const std::vector<int64_t>& start, const std::vector<hsize_t>& chunk) {
  at::Tensor part = values;
  for (std::size_t d = 0; d < chunk.size(); ++d) {
    const int64_t dimension = static_cast<int64_t>(d);
    const int64_t begin = static_cast<int64_t>(chunk[d]) - start[d];
    const int64_t end = std::min(begin + variable.chunk[d], values.size(dimension));
    part = part.slice(dimension, std::max<int64_t>(begin, 0), end);
  }
  return part;
}

}  // namespace

Storage storage_of(hid_t dataset, const VariableInfo& variable) {
  const Hdf5Handle layout{H5Dget_create_plist(dataset), H5Pclose};
  if (!layout) return {};
  Storage storage;
  storage.filtered = H5Pget_nfilters(layout.get()) > 0;
  // Of chunks that is a walk over their index, which filters make useless.
  const hsize_t stored = storage.filtered ? 0 : H5Dget_storage_size(dataset);
  if (variable.chunk.empty()) {
    // What lies in other files takes no space in this one.
    storage.complete = stored > 0 || H5Pget_layout(layout.get()) != H5D_CONTIGUOUS ||
                       H5Pget_external_count(layout.get()) > 0;
  } else {
    storage.complete = !storage.filtered && stored >= bytes_of_all_chunks(dataset, variable);
  }
  return storage;
}

void mask_unwritten(hid_t dataset, const Storage& storage, const VariableInfo& variable,
                    const std::vector<int64_t>& start, at::Tensor& values) {
  if (storage.complete) return;
  if (variable.chunk.empty()) {
    values.fill_(kNan);
    return;
  }
  const std::size_t rank = start.size();
  std::vector<hsize_t> first(rank);
  for (std::size_t d = 0; d < rank; ++d) {
    first[d] = static_cast<hsize_t>(start[d] - start[d] % variable.chunk[d]);
  }
  for (std::vector<hsize_t> chunk = first;;) {
    if (!is_written(dataset, storage, chunk)) part_in(values, variable, start, chunk).fill_(kNan);
    // The next one, the last dimension fastest.
    std::size_t d = rank;
    while (d > 0) {
      --d;
      chunk[d] += static_cast<hsize_t>(variable.chunk[d]);
      if (static_cast<int64_t>(chunk[d]) < start[d] + values.size(static_cast<int64_t>(d))) break;
      chunk[d] = first[d];
      if (d == 0) return;
    }
  }
}

}  // namespace isobar
