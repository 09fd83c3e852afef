// SPDX-License-Identifier: Apache-2.0
// Called by graph_file.cpp, which holds an Hdf5Session; nothing here takes the lock.
//
// HDF5 1.10 returns a flipped bit of an array without an error. So each array has a hash of its
// bytes as an attribute, and its file is of the latest format, whose metadata have checksums
// (file.cpp). The same arrays make the same bytes: types and byte order are fixed, and there are no
// dates. Reading asks for memory only once the shape is one that the file has bytes for.
#include <isobar/hdf5/arrays.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/file_hash.hpp>
#include <isobar/hdf5/attribute.hpp>
#include <isobar/hdf5/file.hpp>
#include <ATen/ATen.h>
#include <hdf5.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace isobar {
namespace {

constexpr const char* kHash = "xxh3_128";

hid_t type_in_file(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return H5T_IEEE_F64LE;
    case at::kFloat:
      return H5T_IEEE_F32LE;
    default:
      return H5T_STD_I32LE;
  }
}

hid_t type_in_memory(at::ScalarType type) {
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

std::vector<int64_t> shape_of_array(hid_t dataset, const std::string& what) {
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

std::string write_array(hid_t file, const std::string& name, const at::Tensor& values) {
  const Hdf5Handle creation = undated(H5P_DATASET_CREATE);
  const std::vector<hsize_t> lengths(values.sizes().begin(), values.sizes().end());
  const Hdf5Handle space = checked(
      H5Screate_simple(static_cast<int>(lengths.size()), lengths.data(), nullptr), H5Sclose, name);
  const Hdf5Handle dataset =
      checked(H5Dcreate2(file, name.c_str(), type_in_file(values.scalar_type()), space.get(),
                         H5P_DEFAULT, creation.get(), H5P_DEFAULT),
              H5Dclose, name);
  check_status(H5Dwrite(dataset.get(), type_in_memory(values.scalar_type()), H5S_ALL, H5S_ALL,
                        H5P_DEFAULT, values.const_data_ptr()),
               name);
  const std::string hash = hash_of(values);
  write_text(dataset.get(), kHash, hash);
  return hash;
}

HashedArray read_array(hid_t file, const std::filesystem::path& path, const std::string& name,
                       const WantedArray& wanted) {
  const std::string what = path.string() + ": " + name;
  const Hdf5Handle dataset = checked(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, what);
  const std::vector<int64_t> found = shape_of_array(dataset.get(), what);
  const Hdf5Handle stored = checked(H5Dget_type(dataset.get()), H5Tclose, what);
  if (!agrees(found, wanted.shape) || H5Tequal(stored.get(), type_in_file(wanted.type)) <= 0) {
    throw DataError(detail::join(what, " has another shape or type than ", wanted.owner, "'s"));
  }
  // A shape that the file has no bytes for is not worth asking memory for.
  const double bytes = std::accumulate(found.begin(), found.end(), 1.0, std::multiplies<>()) *
                       static_cast<double>(c10::elementSize(wanted.type));
  if (bytes != static_cast<double>(H5Dget_storage_size(dataset.get()))) {
    throw DataError(detail::join(what, " is not stored as ", wanted.owner, "'s arrays are"));
  }
  HashedArray array{at::empty(found, at::TensorOptions(wanted.type)), {}};
  check_status(H5Dread(dataset.get(), type_in_memory(wanted.type), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                       array.values.mutable_data_ptr()),
               what);
  array.hash = hash_of(array.values);
  const std::string written = read_text(dataset.get(), kHash, what);
  if (array.hash != written) {
    throw DataError(detail::join(what, " is damaged: its bytes hash to ", array.hash,
                                 ", written were ", written, "; ", wanted.remedy));
  }
  return array;
}

}  // namespace isobar
