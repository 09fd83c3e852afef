// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <H5Ipublic.h>

#include <string>

namespace isobar {

/// A sentence that names the first filter of a dataset that the HDF5 at hand
/// does not have; empty where it has them all.
std::string missing_filter(hid_t dataset);

}  // namespace isobar
