// SPDX-License-Identifier: Apache-2.0
#include "comm/control/store_server.hpp"

namespace isobar::control {

bool StoreServer::take(int rank, const ControlMessage& message, std::vector<Answer>& answers) {
  if (const auto* stored = std::get_if<Stored>(&message)) {
    values_[stored->key] = stored->value;
    for (const int waiting : wanted_[stored->key]) {
      answers.emplace_back(waiting, Found{stored->key, stored->value});
    }
    wanted_.erase(stored->key);
    return true;
  }
  const auto* wanted = std::get_if<Wanted>(&message);
  if (!wanted) return false;
  if (const auto value = values_.find(wanted->key); value != values_.end()) {
    answers.emplace_back(rank, Found{value->first, value->second});
  } else {
    wanted_[wanted->key].push_back(rank);
  }
  return true;
}

}  // namespace isobar::control
