// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace isobar {

/// What parameters a module had when it was wrapped, and what became of them.
class ModuleWatch {
 public:
  explicit ModuleWatch(const torch::nn::Module& module);

  /// What makes the module another than the wrapped one, such as "parameter 'head.weight' was
  /// replaced"; empty: nothing. A parameter that was trained and is frozen now is no change:
  /// see Reducer. Takes some tens of nanoseconds a parameter where nothing has changed.
  std::string change() const;

 private:
  struct Seen {
    std::string name;
    at::Tensor tensor;
    bool was_trained = false;
  };

  bool is_unchanged() const;

  const torch::nn::Module& module_;
  std::vector<Seen> seen_;  ///< in the order of a walk over the module, a shared one repeatedly
};

}  // namespace isobar
