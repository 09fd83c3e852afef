// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/variable.hpp>

namespace isobar {

std::string text_attribute(const VariableInfo& variable, const std::string& name) {
  const auto found = variable.attributes.find(name);
  if (found == variable.attributes.end()) return {};
  const auto* texts = std::get_if<std::vector<std::string>>(&found->second);
  return texts == nullptr || texts->empty() ? std::string{} : texts->front();
}

}  // namespace isobar
