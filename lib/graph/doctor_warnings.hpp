// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/doctor.hpp>

namespace isobar {

/// The sentences of a report that is complete but for them.
std::vector<std::string> warnings_about(const GraphReport& report, const GraphOptions& options);

}  // namespace isobar
