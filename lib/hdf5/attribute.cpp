// SPDX-License-Identifier: Apache-2.0
// Called by the catalogue, by netcdf.cpp for variables of text, by arrays and whole tensors, all of
// which hold an Hdf5Session: nothing here takes the lock.
//
// Files come from anywhere: what is asked for may be absent, of another class or empty, and each is
// told apart before HDF5 converts anything. Texts of variable length are HDF5's memory, which goes
// back to it in the function that read them.
#include <isobar/hdf5/attribute.hpp>

#include <isobar/core/error.hpp>
#include <isobar/hdf5/handle.hpp>
#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace isobar {
namespace {

constexpr std::array kBookkeeping = {"CLASS",
                                     "NAME",
                                     "DIMENSION_LIST",
                                     "REFERENCE_LIST",
                                     "_Netcdf4Dimid",
                                     "DIMENSION_LABELS",
                                     "_Netcdf4Coordinates"};

std::string trimmed(const char* text, std::size_t length) {
  std::string result(text, strnlen(text, length));
  result.erase(result.find_last_not_of(' ') + 1);
  return result;
}

Hdf5Handle text_type(std::size_t length) {
  Hdf5Handle type = checked(H5Tcopy(H5T_C_S1), H5Tclose, "text");
  check_status(H5Tset_size(type.get(), std::max<std::size_t>(length, 1)), "text");
  return type;
}

herr_t collect_name(hid_t, const char* name, const H5A_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

}  // namespace

std::string type_name(hid_t type) {
  const std::string bits = std::to_string(8 * H5Tget_size(type));
  switch (H5Tget_class(type)) {
    case H5T_FLOAT:
      return "float" + bits;
    case H5T_INTEGER:
      return (H5Tget_sign(type) == H5T_SGN_NONE ? "uint" : "int") + bits;
    case H5T_STRING:
      return H5Tis_variable_str(type) > 0 ? "string" : "char";
    case H5T_ENUM:
      return "enum";
    case H5T_COMPOUND:
      return "compound";
    case H5T_VLEN:
      return "vlen";
    case H5T_OPAQUE:
      return "opaque";
    case H5T_REFERENCE:
      return "reference";
    default:
      return "unknown";
  }
}

bool has_attribute(hid_t object, const char* name) { return H5Aexists(object, name) > 0; }

std::vector<std::string> read_texts(hid_t type, hid_t space,
                                    const std::function<herr_t(hid_t, void*)>& read,
                                    std::string_view what) {
  const auto count =
      static_cast<std::size_t>(std::max<hssize_t>(0, H5Sget_simple_extent_npoints(space)));
  std::vector<std::string> texts;
  if (H5Tis_variable_str(type) > 0) {
    std::vector<char*> pointers(count, nullptr);
    check_status(read(type, pointers.data()), what);
    for (const char* pointer : pointers) texts.emplace_back(pointer == nullptr ? "" : pointer);
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, pointers.data());
    return texts;
  }
  const std::size_t width = H5Tget_size(type);
  std::vector<char> bytes(width * count);
  check_status(read(type, bytes.data()), what);
  for (std::size_t i = 0; i < count; ++i) texts.push_back(trimmed(bytes.data() + i * width, width));
  return texts;
}

Attribute read_attribute(hid_t object, const char* name, std::string_view what) {
  const auto attribute = checked(H5Aopen(object, name, H5P_DEFAULT), H5Aclose, what);
  const auto type = checked(H5Aget_type(attribute.get()), H5Tclose, what);
  const auto space = checked(H5Aget_space(attribute.get()), H5Sclose, what);
  const auto count =
      static_cast<std::size_t>(std::max<hssize_t>(0, H5Sget_simple_extent_npoints(space.get())));
  const H5T_class_t kind = H5Tget_class(type.get());
  if (kind == H5T_STRING) {
    if (count == 0) return std::vector<std::string>{""};
    return read_texts(
        type.get(), space.get(),
        [&](hid_t memory, void* buffer) { return H5Aread(attribute.get(), memory, buffer); }, what);
  }
  std::vector<double> numbers;
  if (kind == H5T_FLOAT || kind == H5T_INTEGER) {
    numbers.resize(count);
    if (count > 0) check_status(H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, numbers.data()), what);
  }
  return numbers;
}

void read_attributes(hid_t object, VariableInfo& info, std::string_view what) {
  std::vector<std::string> names;
  check_status(H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect_name, &names),
               what);
  for (const std::string& name : names) {
    if (std::find(kBookkeeping.begin(), kBookkeeping.end(), name) != kBookkeeping.end()) continue;
    info.attributes[name] = read_attribute(object, name.c_str(), what);
    const auto attribute = checked(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, what);
    const auto type = checked(H5Aget_type(attribute.get()), H5Tclose, what);
    info.attribute_types[name] = type_name(type.get());
  }
}

std::vector<int64_t> integers_of(hid_t object, const char* name, std::string_view what) {
  if (!has_attribute(object, name)) return {};
  const Attribute attribute = read_attribute(object, name, what);
  const auto* numbers = std::get_if<std::vector<double>>(&attribute);
  if (numbers == nullptr) return {};
  return {numbers->begin(), numbers->end()};
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
    throw DataError(detail::join(what, ": ", name, " is no text"));
  }
  std::string text(H5Tget_size(type.get()), '\0');
  check_status(H5Aread(attribute.get(), type.get(), text.data()), what);
  return text;
}

}  // namespace isobar
