// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/hdf5/variable.hpp>
#include <H5Ipublic.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

// The caller holds an Hdf5Session. `what` begins the text of a DataError, thrown where HDF5 reports
// a failure.

namespace isobar {

/// "int16", "float32", "string", ... for an HDF5 datatype.
std::string type_name(hid_t type);

/// False for an object that is none, too.
bool has_attribute(hid_t object, const char* name);

/// Text or numbers; no numbers for what is neither (references, compounds).
Attribute read_attribute(hid_t object, const char* name, std::string_view what);

/// Reads all attributes of an object and their types but netCDF-4's and the dimension scales' own.
void read_attributes(hid_t object, VariableInfo& info, std::string_view what);

/// `count` texts of an attribute or a data set, by `read`(type, buffer).
std::vector<std::string> read_texts(hid_t type, hid_t space,
                                    const std::function<herr_t(hid_t, void*)>& read,
                                    std::string_view what);

/// The whole numbers of an attribute; none where it is absent.
std::vector<int64_t> integers_of(hid_t object, const char* name, std::string_view what);

/// A new attribute of one text, in as many bytes.
void write_text(hid_t object, const char* name, const std::string& text);

/// One that write_text() wrote; DataError, naming `what`, where there is no text of that name.
std::string read_text(hid_t object, const char* name, const std::string& what);

}  // namespace isobar
