// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/netcdf.hpp>

#include <map>
#include <string>
#include <vector>

namespace isobar {

/// The positions along dimensions at which variables are read, by dimension. Where several are
/// given, the next stands in for what is missing at those before it.
using Selected = std::map<std::string, std::vector<int64_t>>;

/// By what a user chose: a value of the dimension's coordinate (a level, a member, a version) or,
/// where it has none, a position from 0; several with commas between them. Throws DataError that
/// says which values there are.
Selected find_selected(const NetcdfFile& file, const std::vector<std::string>& variables,
                       const std::map<std::string, std::string>& select);

/// Throws DataError for a dimension that has several values and of which none was chosen.
[[noreturn]] void fail_unselected(const NetcdfFile& file, const VariableInfo& variable,
                                  const std::string& dimension);

}  // namespace isobar
