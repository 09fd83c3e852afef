// SPDX-License-Identifier: Apache-2.0
// Gloo's device thread throws where a peer sends more than was asked for, and nothing catches it:
// the program would end before anybody could say which rank issued something else.
#include "comm/gloo/crash.hpp"

#include <cxxabi.h>
#include <exception>
#include <list>
#include <mutex>
#include <string_view>
#include <thread>
#include <typeinfo>

namespace isobar {
namespace {

using CrashReport = std::function<void(const std::string&)>;

struct CrashReports {
  std::mutex mutex;
  std::list<CrashReport> all;
  std::terminate_handler before = nullptr;
};

/// Never destroyed: the handler may run while the program ends.
CrashReports& crash_reports() {
  static auto& instance = *new CrashReports;
  return instance;
}

/// The message of an uncaught exception of Gloo's; empty for any other end.
std::string gloo_message() {
  const auto error = std::current_exception();
  if (!error) return {};
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    const std::string_view type = typeid(known).name();
    return type.find("4gloo") == std::string_view::npos ? std::string() : known.what();
  } catch (...) {
    return {};
  }
}

/// Tells those who want to know; false where nobody does.
bool reported(const std::string& message) {
  auto& all = crash_reports();
  const std::lock_guard lock(all.mutex);
  if (message.empty()) return false;
  for (const auto& report : all.all) report(message);
  return !all.all.empty();
}

/// A thread of Gloo's that cannot go on stays here: the world has failed, its owner leaves. Any
/// other end goes its way.
void on_terminate() {
  if (!reported(gloo_message())) return crash_reports().before();
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace

std::shared_ptr<void> catch_gloo_crashes(std::function<void(const std::string& error)> report) {
  auto& all = crash_reports();
  const std::lock_guard lock(all.mutex);
  if (!all.before) all.before = std::set_terminate(on_terminate);
  const auto mine = all.all.insert(all.all.end(), std::move(report));
  return {nullptr, [mine](void*) {
            const std::lock_guard guard(crash_reports().mutex);
            crash_reports().all.erase(mine);
          }};
}

}  // namespace isobar
