// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace isobar {

/// Text or numbers of an attribute; an attribute of one value has one element.
using Attribute = std::variant<std::vector<std::string>, std::vector<double>>;

/// What a file says of a variable, in the words of netCDF-4, whose way to lie in HDF5 is followed.
struct VariableInfo {
  /// Its path from the root group, without the leading slash: "t2m", "grp1/T".
  std::string name;
  /// The stored type: "float32", "int16", "string", ...
  std::string type;
  /// One name a dimension; "phony_dim_0", ... where the file names none.
  std::vector<std::string> dimensions;
  std::vector<int64_t> shape;
  /// Lengths of a chunk; empty where the variable is not chunked.
  std::vector<int64_t> chunk;
  /// Without those by which netCDF-4 keeps its own books.
  std::map<std::string, Attribute> attributes;
  /// The stored types of these.
  std::map<std::string, std::string> attribute_types;
  /// Whether the file holds a fill value for what was never written: not with fill off.
  bool filled = true;
};

/// The text of an attribute, or "" where there is none or it holds numbers.
std::string text_attribute(const VariableInfo& variable, const std::string& name);

}  // namespace isobar
