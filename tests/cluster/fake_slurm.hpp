// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "core/temporary_folder.hpp"

namespace isobar::test {

/// What commands do, as text in bash, by name.
using Commands = std::map<std::string, std::string>;

/// Commands that stand before Slurm's on the PATH while it lives. Each writes its arguments into
/// `calls` and then does what its text says.
class FakeSlurm {
 public:
  explicit FakeSlurm(const Commands& commands) : before_(std::getenv("PATH")) {
    const auto bin = scratch_.path() / "bin";
    std::filesystem::create_directory(bin);
    for (const auto& [name, does] : commands) {
      const auto path = bin / name;
      std::ofstream(path) << "#!/bin/bash\ncd '" << scratch_.path().string() << "'\necho " << name
                          << " \"$@\" >> calls\n"
                          << does << "\n";
      std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    }
    ::setenv("PATH", (bin.string() + ":/usr/bin:/bin").c_str(), 1);
  }
  ~FakeSlurm() { ::setenv("PATH", before_.c_str(), 1); }
  FakeSlurm(const FakeSlurm&) = delete;
  FakeSlurm& operator=(const FakeSlurm&) = delete;

  /// Where a test may put what it makes.
  std::filesystem::path folder() const { return scratch_.path() / "jobs"; }

  /// A line for each command that was called, with its arguments.
  std::vector<std::string> calls() const {
    std::ifstream file(scratch_.path() / "calls");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  std::string text_of(const std::string& name) const { return read_file(scratch_ / name); }

 private:
  std::string before_;
  TemporaryFolder scratch_;
};

}  // namespace isobar::test
