// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/netcdf.hpp>
#include <H5Ipublic.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace isobar::detail {

/// "int16", "float32", "string", ... for an HDF5 datatype.
std::string type_name(hid_t type);

bool has_attribute(hid_t object, const char* name);

/// Text or numbers; no numbers for what is neither (references, compounds).
Attribute read_attribute(hid_t object, const char* name, std::string_view what);

/// All attributes of an object but netCDF-4's and the dimension scales' own.
std::map<std::string, Attribute> read_attributes(hid_t object, std::string_view what);

/// The whole numbers of an attribute; none where it is absent.
std::vector<int64_t> integers_of(hid_t object, const char* name, std::string_view what);

}  // namespace isobar::detail
