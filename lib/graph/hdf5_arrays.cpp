// SPDX-License-Identifier: Apache-2.0
#include "graph/hdf5_arrays.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <hdf5.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "core/file_hash.hpp"

namespace isobar::detail {
namespace {

constexpr const char* kHash = "xxh3_128";

hid_t file_type(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return H5T_IEEE_F64LE;
    case at::kFloat:
      return H5T_IEEE_F32LE;
    default:
      return H5T_STD_I32LE;
  }
}

hid_t memory_type(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return H5T_NATIVE_DOUBLE;
    case at::kFloat:
      return H5T_NATIVE_FLOAT;
    default:
      return H5T_NATIVE_INT32;
  }
}

std::string hash_of(const at::Tensor& values) {
  return hash_text({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
}

Hdf5Handle text_type(std::size_t length) {
  Hdf5Handle type = checked(H5Tcopy(H5T_C_S1), H5Tclose, "text");
  check_status(H5Tset_size(type.get(), std::max<std::size_t>(length, 1)), "text");
  return type;
}

/// Parallel file systems mounted without flock refuse to lock, and nobody else has the file.
Hdf5Handle unlocked_access(const std::filesystem::path& path) {
  Hdf5Handle access = checked(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, path.string());
  check_status(H5Pset_file_locking(access.get(), false, true), path.string());
  return access;
}

/// Dates would make files of one graph differ.
Hdf5Handle undated(hid_t kind) {
  Hdf5Handle creation = checked(H5Pcreate(kind), H5Pclose, "creation");
  check_status(H5Pset_obj_track_times(creation.get(), false), "creation");
  return creation;
}

std::vector<int64_t> shape_of(hid_t dataset, const std::string& what) {
  const Hdf5Handle space = checked(H5Dget_space(dataset), H5Sclose, what);
  const int dimensions = H5Sget_simple_extent_ndims(space.get());
  std::vector<hsize_t> lengths(std::max(dimensions, 0));
  check_status(H5Sget_simple_extent_dims(space.get(), lengths.data(), nullptr), what);
  return {lengths.begin(), lengths.end()};
}

bool agrees(const std::vector<int64_t>& shape, const std::vector<int64_t>& wanted) {
  return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end(),
                    [](int64_t got, int64_t want) { return want < 0 || got == want; });
}

}  // namespace

Hdf5Handle create_file(const std::filesystem::path& path) {
  const Hdf5Handle access = unlocked_access(path);
  // The latest format has checksums in its metadata.
  check_status(H5Pset_libver_bounds(access.get(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST),
               path.string());
  const Hdf5Handle creation = undated(H5P_FILE_CREATE);
  return checked(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose,
                 path.string() + ": cannot be written as HDF5");
}

void create_group(hid_t file, const std::string& name) {
  const Hdf5Handle creation = undated(H5P_GROUP_CREATE);
  checked(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Gclose, name);
}

Hdf5Handle open_to_read(const std::filesystem::path& path) {
  const Hdf5Handle access = unlocked_access(path);
  return checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose,
                 path.string() + ": cannot be opened as HDF5");
}

void write_text(hid_t object, const char* name, const std::string& text) {
  const Hdf5Handle type = text_type(text.size());
  const Hdf5Handle space = checked(H5Screate(H5S_SCALAR), H5Sclose, name);
  const Hdf5Handle attribute = checked(
      H5Acreate2(object, name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose, name);
  check_status(H5Awrite(attribute.get(), type.get(), text.data()), name);
}

std::string read_text(hid_t object, const char* name, const std::string& what) {
  const Hdf5Handle attribute = checked(H5Aopen(object, name, H5P_DEFAULT), H5Aclose, what);
  const Hdf5Handle type = checked(H5Aget_type(attribute.get()), H5Tclose, what);
  const Hdf5Handle space = checked(H5Aget_space(attribute.get()), H5Sclose, what);
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) > 0 ||
      H5Sget_simple_extent_npoints(space.get()) != 1) {
    throw DataError(join(what, ": ", name, " is no text"));
  }
  std::string text(H5Tget_size(type.get()), '\0');
  check_status(H5Aread(attribute.get(), type.get(), text.data()), what);
  return text;
}

std::string write_array(hid_t file, const std::string& name, const at::Tensor& values) {
  const Hdf5Handle creation = undated(H5P_DATASET_CREATE);
  const std::vector<hsize_t> lengths(values.sizes().begin(), values.sizes().end());
  const Hdf5Handle space = checked(
      H5Screate_simple(static_cast<int>(lengths.size()), lengths.data(), nullptr), H5Sclose, name);
  const Hdf5Handle dataset =
      checked(H5Dcreate2(file, name.c_str(), file_type(values.scalar_type()), space.get(),
                         H5P_DEFAULT, creation.get(), H5P_DEFAULT),
              H5Dclose, name);
  check_status(H5Dwrite(dataset.get(), memory_type(values.scalar_type()), H5S_ALL, H5S_ALL,
                        H5P_DEFAULT, values.const_data_ptr()),
               name);
  const std::string hash = hash_of(values);
  write_text(dataset.get(), kHash, hash);
  return hash;
}

HashedArray read_array(hid_t file, const std::filesystem::path& path, const std::string& name,
                       at::ScalarType type, const std::vector<int64_t>& shape) {
  const std::string what = path.string() + ": " + name;
  const Hdf5Handle dataset = checked(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, what);
  const std::vector<int64_t> found = shape_of(dataset.get(), what);
  const Hdf5Handle stored = checked(H5Dget_type(dataset.get()), H5Tclose, what);
  if (!agrees(found, shape) || H5Tequal(stored.get(), file_type(type)) <= 0) {
    throw DataError(join(what, " has another shape or type than a graph's"));
  }
  // A shape that the file has no bytes for is not worth asking memory for.
  const double bytes = std::accumulate(found.begin(), found.end(), 1.0, std::multiplies<>()) *
                       static_cast<double>(c10::elementSize(type));
  if (bytes != static_cast<double>(H5Dget_storage_size(dataset.get()))) {
    throw DataError(join(what, " is not stored as a graph's arrays are"));
  }
  HashedArray array{at::empty(found, at::TensorOptions(type)), {}};
  check_status(H5Dread(dataset.get(), memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                       array.values.mutable_data_ptr()),
               what);
  array.hash = hash_of(array.values);
  const std::string wanted = read_text(dataset.get(), kHash, what);
  if (array.hash != wanted) {
    throw DataError(join(what, " is damaged: its bytes hash to ", array.hash, ", written were ",
                         wanted, "; build the graph again"));
  }
  return array;
}

}  // namespace isobar::detail
