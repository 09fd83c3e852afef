// SPDX-License-Identifier: Apache-2.0
// Called after the page was written. The browser is a process of its own for each chart, with a
// profile in a folder that goes with it, so that it neither meets a user's browser nor leaves
// anything; what it prints is nobody's. Between fork and exec stand system calls alone.
#include <isobar/report/browser.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/stopwatch.hpp>
#include <isobar/launch/environment.hpp>
#include <fmt/format.h>

#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

namespace isobar {
namespace {

namespace fs = std::filesystem;

constexpr double kLimitS = 120;
constexpr auto kLook = std::chrono::milliseconds(50);

/// With what a URL has a meaning for as %xx.
std::string file_url(const fs::path& file) {
  std::string url = "file://";
  for (const char c : fs::absolute(file).lexically_normal().string()) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string("/-_.~").find(c) != std::string::npos;
    url += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return url;
}

/// What it does without a window, before what it is to do.
std::vector<std::string> browser_words(const std::string& browser, const fs::path& profile) {
  std::vector<std::string> words{browser, "--headless", "--disable-gpu",
                                 "--virtual-time-budget=20000",
                                 "--user-data-dir=" + profile.string()};
  if (::geteuid() == 0) words.emplace_back("--no-sandbox");  // which it refuses to have as root
  return words;
}

std::vector<std::string> words_to_draw(const std::string& browser, const fs::path& page,
                                       std::size_t chart, const fs::path& picture,
                                       const fs::path& profile) {
  auto words = browser_words(browser, profile);
  for (const char* word :
       {"--hide-scrollbars", "--force-device-scale-factor=2", "--window-size=960,620"}) {
    words.emplace_back(word);
  }
  words.push_back("--screenshot=" + picture.string());
  words.push_back(fmt::format("{}#only={}", file_url(page), chart));
  return words;
}

/// In the child; never returns.
[[noreturn]] void become_browser(char* const* words) {
  const int nothing = ::open("/dev/null", O_RDWR);
  for (const int stream : {0, 1, 2}) ::dup2(nothing, stream);
  ::execvp(words[0], words);
  ::_exit(127);
}

/// The exit code; -1 where it had to be ended.
int run_browser(std::vector<std::string> texts) {
  std::vector<char*> words;
  for (auto& text : texts) words.push_back(text.data());
  words.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw Error("report: no process can be started for the browser");
  if (child == 0) become_browser(words.data());
  const Stopwatch since;
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (since.elapsed_s() > kLimitS) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(kLook);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// The browser has made `file`, or this throws.
void check_made(const fs::path& file, const std::string& browser, const std::string& what,
                int code) {
  if (fs::exists(file)) return;
  throw Error(detail::join("report: ", browser, " left no ", what, code < 0 ? " in time" : "",
                           " (exit code ", code, "), wanted ", file.string(),
                           "; the page is written all the same"));
}

}  // namespace

std::string find_browser() {
  for (const char* name :
       {"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"}) {
    std::istringstream path(environment_variable("PATH"));
    for (std::string folder; std::getline(path, folder, ':');) {
      const auto file = fs::path(folder) / name;
      if (fs::is_regular_file(file) && ::access(file.c_str(), X_OK) == 0) return file;
    }
  }
  return "";
}

std::vector<std::string> draw_charts(const std::string& browser, const fs::path& page,
                                     std::size_t charts, const fs::path& folder) {
  fs::create_directories(folder);
  const auto profile = fs::absolute(folder) / ".browser";
  std::vector<std::string> names;
  for (std::size_t chart = 1; chart <= charts; ++chart) {
    names.push_back(fmt::format("chart-{}.png", chart));
    const auto picture = fs::absolute(folder) / names.back();
    fs::remove(picture);
    const int code = run_browser(words_to_draw(browser, page, chart, picture, profile));
    if (!fs::exists(picture)) fs::remove_all(profile);
    check_made(picture, browser, fmt::format("picture of chart {}", chart), code);
  }
  fs::remove_all(profile);
  return names;
}

void print_page(const std::string& browser, const fs::path& page, const fs::path& pdf) {
  const auto file = fs::absolute(pdf);
  const auto profile = file.parent_path() / ".browser";
  fs::remove(file);
  auto words = browser_words(browser, profile);
  words.emplace_back("--no-pdf-header-footer");
  words.push_back("--print-to-pdf=" + file.string());
  words.push_back(file_url(page));
  const int code = run_browser(std::move(words));
  fs::remove_all(profile);
  check_made(file, browser, "PDF", code);
}

}  // namespace isobar
