// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/train/state.hpp>

#include <algorithm>
#include <utility>

namespace isobar {
namespace {

NamedTensors::const_iterator find_tensor(const NamedTensors& tensors, const std::string& key) {
  return std::find_if(tensors.begin(), tensors.end(),
                      [&](const auto& named) { return named.first == key; });
}

[[noreturn]] void fail_missing(const std::string& key, const char* kind,
                               const std::vector<std::string>& keys) {
  throw DataError(detail::join("state has no ", kind, " '", key, "'; ", did_you_mean(key, keys)));
}

}  // namespace

void StateDict::put(const std::string& key, at::Tensor value) {
  ISOBAR_CHECK(value.defined(), "state: tensor '", key, "' is undefined");
  ISOBAR_CHECK(!has(key), "state: key '", key, "' is put twice");
  tensors_.emplace_back(key, std::move(value));
}

void StateDict::put_scalar(const std::string& key, StateScalar value) {
  ISOBAR_CHECK(!has(key), "state: key '", key, "' is put twice");
  scalars_.emplace(key, std::move(value));
}

bool StateDict::has(const std::string& key) const {
  return scalars_.count(key) != 0 || find_tensor(tensors_, key) != tensors_.end();
}

at::Tensor StateDict::tensor(const std::string& key) const {
  const auto found = find_tensor(tensors_, key);
  if (found != tensors_.end()) return found->second;
  std::vector<std::string> keys;
  for (const auto& [name, value] : tensors_) keys.push_back(name);
  fail_missing(key, "tensor", keys);
}

std::int64_t StateDict::integer(const std::string& key) const {
  return scalar<std::int64_t>(key, "integer");
}

double StateDict::real(const std::string& key) const { return scalar<double>(key, "real"); }

std::string StateDict::text(const std::string& key) const {
  return scalar<std::string>(key, "text");
}

template <typename T>
T StateDict::scalar(const std::string& key, const char* kind) const {
  const auto found = scalars_.find(key);
  if (found != scalars_.end() && std::holds_alternative<T>(found->second)) {
    return std::get<T>(found->second);
  }
  std::vector<std::string> keys;
  for (const auto& [name, value] : scalars_) {
    if (std::holds_alternative<T>(value)) keys.push_back(name);
  }
  fail_missing(key, kind, keys);
}

}  // namespace isobar
