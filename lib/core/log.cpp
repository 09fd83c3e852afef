// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/core/log.hpp>

#include "core/terminal.hpp"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>

namespace isobar {

struct Logger::Impl {
  explicit Impl(const LogOptions& given) : rank(given.rank), size(given.size), lines("isobar") {}

  std::string tag() const {
    const std::int64_t now = step.load(std::memory_order_relaxed);
    return now < 0 ? fmt::format("[rank {}/{}]", rank, size)
                   : fmt::format("[rank {}/{} step {}]", rank, size, now);
  }

  int rank;
  int size;
  std::atomic<std::int64_t> step{-1};
  spdlog::logger lines;
};

namespace {

std::shared_ptr<spdlog::sinks::sink> console_sink() {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  // A progress bar may stand on the terminal's line: go to its start, clear it.
  sink->set_pattern(detail::standard_error_terminal() ? "\r\x1b[K%T %v" : "%T %v");
  return sink;
}

std::shared_ptr<spdlog::sinks::sink> file_sink(const LogOptions& options) {
  const auto path = options.folder / fmt::format("rank_{:04}.log", options.rank);
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    sink->set_pattern("%T %v");
    return sink;
  } catch (const spdlog::spdlog_ex& error) {
    throw Error(fmt::format("log of rank {}: cannot open {}: {}", options.rank, path.string(),
                            error.what()));
  }
}

}  // namespace

Logger::Logger(const LogOptions& options) : impl_(std::make_unique<Impl>(options)) {
  auto& sinks = impl_->lines.sinks();
  if (options.rank < options.console_ranks) sinks.push_back(console_sink());
  if (!options.folder.empty()) sinks.push_back(file_sink(options));
  impl_->lines.flush_on(spdlog::level::info);
}

Logger::~Logger() = default;
Logger::Logger(Logger&&) noexcept = default;
Logger& Logger::operator=(Logger&&) noexcept = default;

void Logger::set_step(std::int64_t step) { impl_->step.store(step, std::memory_order_relaxed); }

void Logger::write(Level level, const std::string& message) {
  const std::string tag = impl_->tag();
  switch (level) {
    case Level::info:
      return impl_->lines.info("{} {}", tag, message);
    case Level::warning:
      return impl_->lines.warn("{} warning: {}", tag, message);
    case Level::error:
      return impl_->lines.error("{} error: {}", tag, message);
  }
}

}  // namespace isobar
