// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/tensors.hpp>

#include <isobar/core/error.hpp>
#include <isobar/hdf5/attribute.hpp>
#include <isobar/hdf5/handle.hpp>
#include <ATen/ATen.h>
#include <hdf5.h>

#include <variant>
#include <vector>

namespace isobar {
namespace {

using detail::join;

/// The tensor type for a data set's, and HDF5's name of it in memory.
struct ElementType {
  at::ScalarType tensor;
  hid_t memory;
};

ElementType element_type(hid_t type, const std::string& what) {
  const std::string name = type_name(type);
  if (name == "float32") return {at::kFloat, H5T_NATIVE_FLOAT};
  if (name == "float64") return {at::kDouble, H5T_NATIVE_DOUBLE};
  if (name == "int32") return {at::kInt, H5T_NATIVE_INT32};
  if (name == "int64") return {at::kLong, H5T_NATIVE_INT64};
  throw DataError(join(what, " is ", name, ", wanted float32, float64, int32 or int64"));
}

hid_t memory_type(at::ScalarType type, const std::string& what) {
  switch (type) {
    case at::kFloat:
      return H5T_NATIVE_FLOAT;
    case at::kDouble:
      return H5T_NATIVE_DOUBLE;
    case at::kInt:
      return H5T_NATIVE_INT32;
    case at::kLong:
      return H5T_NATIVE_INT64;
    default:
      throw DataError(join(what, ": ", at::toString(type), " is not written"));
  }
}

std::vector<int64_t> shape_of(hid_t space) {
  std::vector<hsize_t> extents(H5Sget_simple_extent_ndims(space));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  return {extents.begin(), extents.end()};
}

}  // namespace

struct Hdf5Tensors::Impl {
  std::string path;
  Hdf5Handle file;
};

Hdf5Tensors::Hdf5Tensors(const std::string& path) : impl_(std::make_unique<Impl>()) {
  const Hdf5Session session;
  impl_->path = path;
  impl_->file = checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose,
                        "cannot open '" + path + "'");
}

Hdf5Tensors::~Hdf5Tensors() {
  const Hdf5Session session;
  impl_.reset();
}

bool Hdf5Tensors::has(const std::string& name) const {
  const Hdf5Session session;
  for (size_t end = name.find('/'); end != std::string::npos; end = name.find('/', end + 1)) {
    if (H5Lexists(impl_->file.get(), name.substr(0, end).c_str(), H5P_DEFAULT) <= 0) return false;
  }
  return H5Lexists(impl_->file.get(), name.c_str(), H5P_DEFAULT) > 0;
}

at::Tensor Hdf5Tensors::read(const std::string& name) const {
  const Hdf5Session session;
  const std::string what = join("'", impl_->path, "': data set '", name, "'");
  const auto set = checked(H5Dopen2(impl_->file.get(), name.c_str(), H5P_DEFAULT), H5Dclose, what);
  const auto type = checked(H5Dget_type(set.get()), H5Tclose, what);
  const auto space = checked(H5Dget_space(set.get()), H5Sclose, what);
  const auto element = element_type(type.get(), what);
  at::Tensor values = at::empty(shape_of(space.get()), element.tensor);
  check_status(H5Dread(set.get(), element.memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data_ptr()),
               what);
  return values;
}

std::string Hdf5Tensors::text(const std::string& attribute) const {
  const Hdf5Session session;
  const hid_t file = impl_->file.get();
  if (!has_attribute(file, attribute.c_str())) return {};
  const auto value =
      read_attribute(file, attribute.c_str(), join("'", impl_->path, "': '", attribute, "'"));
  const auto* texts = std::get_if<std::vector<std::string>>(&value);
  return texts && !texts->empty() ? texts->front() : std::string();
}

struct Hdf5TensorWriter::Impl {
  std::string path;
  Hdf5Handle file;
};

Hdf5TensorWriter::Hdf5TensorWriter(const std::string& path) : impl_(std::make_unique<Impl>()) {
  const Hdf5Session session;
  impl_->path = path;
  impl_->file = checked(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose,
                        "cannot write '" + path + "'");
}

Hdf5TensorWriter::~Hdf5TensorWriter() {
  const Hdf5Session session;
  impl_.reset();
}

void Hdf5TensorWriter::write(const std::string& name, const at::Tensor& values) {
  const Hdf5Session session;
  const std::string what = join("'", impl_->path, "': data set '", name, "'");
  const at::Tensor data = values.cpu().contiguous();
  const auto element = memory_type(data.scalar_type(), what);
  const std::vector<hsize_t> extents(data.sizes().begin(), data.sizes().end());
  const auto space = checked(
      H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), H5Sclose, what);
  const auto groups = checked(H5Pcreate(H5P_LINK_CREATE), H5Pclose, what);
  check_status(H5Pset_create_intermediate_group(groups.get(), 1), what);
  const auto set = checked(H5Dcreate2(impl_->file.get(), name.c_str(), element, space.get(),
                                      groups.get(), H5P_DEFAULT, H5P_DEFAULT),
                           H5Dclose, what);
  check_status(H5Dwrite(set.get(), element, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.const_data_ptr()),
               what);
}

}  // namespace isobar
