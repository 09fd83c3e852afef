// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/data_file.hpp>

#include <string>

namespace isobar {

/// The text of an experiment that trains on `file`, whose runs are called `name`: small, with every
/// choice explained. Throws DataError where the file has too few times, or nothing that changes.
std::string make_experiment(const DataFile& file, const std::string& name);

}  // namespace isobar
