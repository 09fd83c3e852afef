// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace isobar {

/// The environment's variable of that name; empty where it is not set.
std::string variable(const char* name);

/// For a child to start with.
char** environment_block();

}  // namespace isobar
