// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace isobar {

/// isobar's own version, such as "0.1.0".
std::string version();

/// The git commit that the build was configured at (12 hexadecimal digits),
/// "unknown" where the source is no git checkout.
std::string commit();

/// The LibTorch whose headers isobar was compiled against, such as "2.15.0".
std::string torch_version();

/// The C++ compiler that built isobar, such as "GNU 12.2.0".
std::string compiler();

}  // namespace isobar
