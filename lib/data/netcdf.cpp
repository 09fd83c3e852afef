// SPDX-License-Identifier: Apache-2.0
// Opened by FieldFile and by commands that look into a file; any thread may read. HDF5 is entered
// with an Hdf5Session alone, also to close a handle: builds without thread safety corrupt their own
// state otherwise. Hence handles are closed by hand while a session lives, not by their
// destructors, and the table of open variables is only touched then.
//
// Decoding comes after the session, so that others may read meanwhile. What the file says of its
// variables does not change once it is open, and is read without one.
#include <isobar/data/netcdf.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/hdf5/attribute.hpp>
#include <isobar/hdf5/catalogue.hpp>
#include <isobar/hdf5/file.hpp>
#include <isobar/hdf5/filters.hpp>
#include <isobar/hdf5/handle.hpp>
#include <isobar/hdf5/storage.hpp>
#include <ATen/ops/empty.h>
#include <hdf5.h>

#include <algorithm>
#include <utility>

#include "decoding.hpp"
#include "file_kind.hpp"

namespace isobar {
namespace {

using detail::join;

/// Chunks along the first dimension hold several times, so reading time after
/// time needs them inflated once; beyond this size a variable's chunks are
/// inflated again, rather than many variables filling the memory.
constexpr std::size_t kLargestChunkCacheBytes = std::size_t{64} << 20;

[[noreturn]] void fail(const std::string& path, const std::string& why) {
  throw DataError(path + ": " + why);
}

/// Bytes of the chunks that one entry of the first dimension lies in.
std::size_t chunk_row_bytes(const VariableInfo& variable, std::size_t value_bytes) {
  std::size_t bytes = value_bytes;
  for (std::size_t d = 0; d < variable.chunk.size(); ++d) {
    const int64_t chunk = variable.chunk[d];
    const int64_t chunks = d == 0 ? 1 : (variable.shape[d] + chunk - 1) / chunk;
    bytes *= static_cast<std::size_t>(chunk * chunks);
  }
  return bytes;
}

void check_range(const VariableInfo& variable, const std::vector<int64_t>& start,
                 const std::vector<int64_t>& count, const std::string& path) {
  const std::size_t rank = variable.shape.size();
  ISOBAR_CHECK(start.size() == rank && count.size() == rank, path, ": variable '", variable.name,
               "' has ", rank, " dimensions; read got ", start.size(), " starts and ", count.size(),
               " counts");
  for (std::size_t d = 0; d < rank; ++d) {
    ISOBAR_CHECK(start[d] >= 0 && count[d] >= 0 && count[d] <= variable.shape[d] - start[d], path,
                 ": variable '", variable.name, "', dimension '", variable.dimensions[d],
                 "' of length ", variable.shape[d], ": read got start ", start[d], ", count ",
                 count[d]);
  }
}

}  // namespace

struct NetcdfFile::Impl {
  std::string path;
  Hdf5Handle file;
  std::map<std::string, VariableInfo> variables;
  std::map<std::string, std::string> hdf5_paths;
  // Kept open, since a variable's chunk cache lives as long as its handle.
  struct Open {
    Hdf5Handle handle;
    Storage storage;
  };
  std::map<std::string, Open> open;

  explicit Impl(std::string file_path);
  ~Impl();
  std::string what(const std::string& name) const { return path + ": variable '" + name + "'"; }
  const Open& dataset(const VariableInfo& variable);
  void read(const VariableInfo& variable, const std::vector<int64_t>& start, at::Tensor& values);
  at::Tensor decoded(const VariableInfo& variable, const std::vector<int64_t>& start,
                     const std::vector<int64_t>& count, const Decoding& decoding);
};

NetcdfFile::Impl::Impl(std::string file_path) : path(std::move(file_path)) {
  check_is_hdf5(path);
  const Hdf5Session session;
  file = open_to_read(path, path + ": cannot be opened as HDF5, truncated or damaged");
  try {
    for (auto& [name, entry] : read_catalogue(file.get(), path)) {
      variables.emplace(name, std::move(entry.info));
      hdf5_paths.emplace(name, std::move(entry.hdf5_path));
    }
  } catch (...) {
    file = {};  // closed while the session is held, not by the member's destructor
    throw;
  }
}

NetcdfFile::Impl::~Impl() {
  const Hdf5Session session;
  open.clear();
  file = {};
}

const NetcdfFile::Impl::Open& NetcdfFile::Impl::dataset(const VariableInfo& variable) {
  const auto known = open.find(variable.name);
  if (known != open.end()) return known->second;
  const auto access = checked(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, what(variable.name));
  if (!variable.chunk.empty()) {
    const std::size_t row = chunk_row_bytes(variable, sizeof(double));
    // 1 MiB is HDF5's own size; 12421 is a prime, as its hash table wants.
    const std::size_t cache = std::clamp(row, std::size_t{1} << 20, kLargestChunkCacheBytes);
    H5Pset_chunk_cache(access.get(), 12421, cache, H5D_CHUNK_CACHE_W0_DEFAULT);
  }
  const std::string& hdf5_path = hdf5_paths.at(variable.name);
  auto handle =
      checked(H5Dopen2(file.get(), hdf5_path.c_str(), access.get()), H5Dclose, what(variable.name));
  const Storage storage = storage_of(handle.get(), variable);
  return open.emplace(variable.name, Open{std::move(handle), storage}).first->second;
}

void NetcdfFile::Impl::read(const VariableInfo& variable, const std::vector<int64_t>& start,
                            at::Tensor& values) {
  const std::string name = what(variable.name);
  const Open& opened = dataset(variable);
  const hid_t source = opened.handle.get();
  const std::vector<hsize_t> from(start.begin(), start.end());
  const std::vector<hsize_t> lengths(values.sizes().begin(), values.sizes().end());
  const int rank = static_cast<int>(lengths.size());
  const auto file_space = checked(H5Dget_space(source), H5Sclose, name);
  const auto memory_space =
      checked(rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, lengths.data(), nullptr),
              H5Sclose, name);
  if (rank > 0) {
    check_status(H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, from.data(), nullptr,
                                     lengths.data(), nullptr),
                 name);
  }
  const hid_t type = values.scalar_type() == at::kFloat ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE;
  const herr_t status =
      H5Dread(source, type, memory_space.get(), file_space.get(), H5P_DEFAULT, values.data_ptr());
  if (status >= 0) {
    mask_unwritten(source, opened.storage, variable, start, values);
    return;
  }
  const std::string cause = hdf5_cause();
  const std::string filter = missing_filter(source);
  fail(path, join("variable '", variable.name, "': ",
                  filter.empty() ? "cannot be read, truncated or damaged: " + cause : filter));
}

NetcdfFile::NetcdfFile(std::string path) : impl_(std::make_unique<Impl>(std::move(path))) {}
NetcdfFile::~NetcdfFile() = default;
NetcdfFile::NetcdfFile(NetcdfFile&&) noexcept = default;
NetcdfFile& NetcdfFile::operator=(NetcdfFile&&) noexcept = default;

const std::string& NetcdfFile::path() const noexcept { return impl_->path; }

const std::map<std::string, VariableInfo>& NetcdfFile::variables() const noexcept {
  return impl_->variables;
}

bool NetcdfFile::has(const std::string& name) const noexcept {
  return impl_->variables.count(name) > 0;
}

const VariableInfo& NetcdfFile::variable(const std::string& name) const {
  const auto found = impl_->variables.find(name);
  if (found != impl_->variables.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, info] : impl_->variables) names.push_back(known);
  fail(impl_->path, "no variable '" + name + "'; " + did_you_mean(name, names));
}

at::Tensor NetcdfFile::Impl::decoded(const VariableInfo& variable,
                                     const std::vector<int64_t>& start,
                                     const std::vector<int64_t>& count, const Decoding& decoding) {
  const bool as_float = variable.type == "float32" && !decoding.packed && decoding.single;
  at::Tensor values = at::empty(count, at::dtype(as_float ? at::kFloat : at::kDouble));
  if (values.numel() > 0) {
    const Hdf5Session session;
    read(variable, start, values);
  }
  return decode(std::move(values), decoding);
}

at::Tensor NetcdfFile::read(const std::string& name, const std::vector<int64_t>& start,
                            const std::vector<int64_t>& count) const {
  const VariableInfo& info = variable(name);
  check_range(info, start, count, impl_->path);
  return impl_->decoded(info, start, count, decoding_of(info, impl_->path));
}

at::Tensor NetcdfFile::read(const std::string& name) const {
  const VariableInfo& info = variable(name);
  return read(name, std::vector<int64_t>(info.shape.size(), 0), info.shape);
}

at::Tensor NetcdfFile::read_coordinate(const std::string& name) const {
  const VariableInfo& info = variable(name);
  return impl_->decoded(info, std::vector<int64_t>(info.shape.size(), 0), info.shape,
                        coordinate_decoding_of(info, impl_->path));
}

std::vector<std::string> NetcdfFile::read_text(const std::string& name) const {
  const VariableInfo& info = variable(name);
  const std::string what = impl_->what(name);
  if (info.type != "string" && info.type != "char") {
    throw DataError(join(what, " holds values of type ", info.type, ", which are no text"));
  }
  const Hdf5Session session;
  const hid_t source = impl_->dataset(info).handle.get();
  const auto type = checked(H5Dget_type(source), H5Tclose, what);
  const auto space = checked(H5Dget_space(source), H5Sclose, what);
  return read_texts(
      type.get(), space.get(),
      [&](hid_t memory, void* buffer) {
        return H5Dread(source, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer);
      },
      what);
}

}  // namespace isobar
