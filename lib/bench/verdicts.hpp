// SPDX-License-Identifier: Apache-2.0
// What the parts of judge() share.
#pragma once

#include <isobar/bench/preflight.hpp>

#include <map>
#include <string>
#include <vector>

namespace isobar::bench {

/// The verdicts on one thing: one that all is well unless something was found to be not.
class Verdicts {
 public:
  explicit Verdicts(std::string what) : what_(std::move(what)) {}

  void add(Grade grade, std::vector<std::string> nodes, std::string measured, std::string wanted,
           std::string advice = {});

  bool empty() const noexcept { return verdicts_.empty(); }

  /// Moves them to the end of `into`, or says there what was measured where all is well.
  void finish(std::vector<Verdict>& into, std::string measured, std::string wanted);

 private:
  std::string what_;
  std::vector<Verdict> verdicts_;
};

/// fail, or warn where the value that is wanted may itself be wrong.
Grade against(const Expectation& wanted, const std::string& name);

/// "n1, n2, n3 and 5 others".
std::string some_of(const std::vector<std::string>& names);

/// Nodes by what they have.
using NodesByText = std::map<std::string, std::vector<std::string>>;

/// The text that most nodes have; of equals that of `first`.
std::string usual_text(const NodesByText& nodes, const std::string& first);

}  // namespace isobar::bench
