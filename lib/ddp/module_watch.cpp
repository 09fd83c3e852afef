// SPDX-License-Identifier: Apache-2.0
#include "ddp/module_watch.hpp"

#include <torch/nn/module.h>

#include <algorithm>

namespace isobar {
namespace {

/// Calls `visit` with every parameter. Names are what takes time in named_parameters(): here they
/// are a module's own.
template <typename Visit>
void walk(const torch::nn::Module& module, const std::string& prefix, const Visit& visit) {
  for (const auto& item : module.named_parameters(/*recurse=*/false)) visit(prefix, item);
  for (const auto& child : module.named_children()) {
    walk(*child.value(), prefix + child.key() + ".", visit);
  }
}

template <typename Visit>
void walk_unnamed(const torch::nn::Module& module, const Visit& visit) {
  for (const auto& item : module.named_parameters(/*recurse=*/false)) visit(item.value());
  for (const auto& child : module.children()) walk_unnamed(*child, visit);
}

}  // namespace

ModuleWatch::ModuleWatch(const torch::nn::Module& module) : module_(module) {
  walk(module, "", [&](const std::string& prefix, const auto& item) {
    seen_.push_back({prefix + item.key(), item.value(), item.value().requires_grad()});
  });
}

bool ModuleWatch::is_unchanged() const {
  size_t next = 0;
  bool same = true;
  walk_unnamed(module_, [&](const at::Tensor& tensor) {
    same = same && next < seen_.size() && seen_[next].tensor.is_same(tensor) &&
           (seen_[next].was_trained || !tensor.requires_grad());
    ++next;
  });
  return same && next == seen_.size();
}

std::string ModuleWatch::change() const {
  if (is_unchanged()) return {};
  std::vector<Seen> now;
  walk(module_, "", [&](const std::string& prefix, const auto& item) {
    now.push_back({prefix + item.key(), item.value(), item.value().requires_grad()});
  });
  const auto find = [](const std::vector<Seen>& list, const auto& matches) {
    return std::find_if(list.begin(), list.end(), matches);
  };
  for (const auto& one : now) {
    const auto before = find(seen_, [&](const Seen& s) { return s.tensor.is_same(one.tensor); });
    const auto quoted = "parameter '" + one.name + "' ";
    if (before == seen_.end()) {
      const auto same_name = find(seen_, [&](const Seen& s) { return s.name == one.name; });
      return quoted + (same_name == seen_.end() ? "was added" : "was replaced");
    }
    if (!before->was_trained && one.was_trained) return quoted + "was unfrozen";
  }
  for (const auto& one : seen_) {
    const auto after = find(now, [&](const Seen& s) { return s.tensor.is_same(one.tensor); });
    if (after == now.end()) return "parameter '" + one.name + "' was taken out";
  }
  return {};  // the same parameters in another order, or under other names
}

}  // namespace isobar
