// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/hdf5/variable.hpp>
#include <ATen/core/Tensor.h>
#include <H5Ipublic.h>

#include <vector>

namespace isobar {

/// What is known of a variable's storage once it is open.
struct Storage {
  bool complete = false;  ///< all of it was written
  bool filtered = false;
};

Storage storage_of(hid_t dataset, const VariableInfo& variable);

/// Sets to NaN what `values`, read from `start` on, holds of chunks that were never written. HDF5
/// gives its fill value for these, which is 0 or what lay in memory where fill is off, and for a
/// byte a value like any other.
void mask_unwritten(hid_t dataset, const Storage& storage, const VariableInfo& variable,
                    const std::vector<int64_t>& start, at::Tensor& values);

}  // namespace isobar
