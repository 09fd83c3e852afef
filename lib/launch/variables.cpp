// SPDX-License-Identifier: Apache-2.0
#include "launch/variables.hpp"

#include <isobar/launch/environment.hpp>

#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace isobar {

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

char** environment_block() { return environ; }

std::map<std::string, std::string> environment_variables() {
  std::map<std::string, std::string> all;
  for (char** entry = environ; entry && *entry; ++entry) {
    const std::string_view text = *entry;
    const auto equals = text.find('=');
    if (equals != std::string_view::npos) {
      all.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return all;
}

}  // namespace isobar
