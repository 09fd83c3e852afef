// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace isobar {

struct RunRecordOptions {
  /// Program and arguments.
  std::vector<std::string> command = {};
  int ranks = 1;
  /// The effective configuration, as text.
  std::string config = {};
};

/// What a run leaves to say where it came from and what it came to.
///
/// Provenance is taken at construction: `schema`, `isobar` {version, commit},
/// `torch`, `compiler`, `host`, `command`, `start_time` (UTC, ISO 8601),
/// `ranks`, `config`. Others add sections by set(). One rank writes it.
class RunRecord {
 public:
  explicit RunRecord(const RunRecordOptions& options);
  ~RunRecord();
  RunRecord(RunRecord&&) noexcept;
  RunRecord& operator=(RunRecord&&) noexcept;

  /// Sets a section, in place of what it held. Throws UsageError where
  /// provenance has that name.
  void set(const std::string& section, const nlohmann::json& value);

  /// The record as indented JSON.
  std::string text() const;

  /// Writes text(), complete or not at all, in place of an earlier file.
  void write(const std::filesystem::path& path) const;

 private:
  std::unique_ptr<nlohmann::json> json_;
};

/// Appends JSON objects to a file, one a line; each is handed to the operating
/// system whole before append() returns, so a run that dies leaves complete
/// lines.
///
/// An existing file is continued; a last line without its end, which a machine
/// that died may have left, is cut off first. Numbers that JSON does not have
/// (NaN, infinities) become null.
class JsonLines {
 public:
  explicit JsonLines(const std::filesystem::path& path);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  /// Throws UsageError where `value` is no object, Error where it cannot be
  /// written.
  void append(const nlohmann::json& value);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace isobar
