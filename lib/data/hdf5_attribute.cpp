// SPDX-License-Identifier: Apache-2.0
#include "hdf5_attribute.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/hdf5_handle.hpp"

namespace isobar::detail {
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

}  // namespace isobar::detail
