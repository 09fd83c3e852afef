// SPDX-License-Identifier: Apache-2.0
// Called by a campaign that runs on this machine, between whose runs nothing else happens. No
// signal is handled: they are held and waited for, together with the child's end, in one place.
// Between fork and exec stands nothing but system calls, since LibTorch may have started threads.
//
// Launchers put their ranks into groups of their own, which a signal to the launcher's does not
// reach: so it is asked to end first, and has time to end them.
#include "scaling/child_process.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/stopwatch.hpp>

#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>

namespace isobar {
namespace {

constexpr double kLook = 0.2;
constexpr double kGrace = 10;

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  void close() {
    if (value_ >= 0) ::close(value_);
    value_ = -1;
  }

 private:
  int value_;
};

/// Under nohup SIGHUP is, and in the background of a script SIGINT. Held, it would come
/// nevertheless.
bool is_ignored(int number) {
  struct sigaction now {};
  return ::sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

/// In the child; says why it could not become the program, and never returns.
[[noreturn]] void become(char* const* words, int output, int nothing, int report, pid_t parent,
                         const sigset_t& signals) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const bool is_orphan = ::getppid() != parent;  // killed before it could be said
  ::sigprocmask(SIG_SETMASK, &signals, nullptr);
  if (!is_orphan && ::dup2(nothing, 0) >= 0 && ::dup2(output, 1) >= 0 && ::dup2(output, 2) >= 0) {
    ::execvp(words[0], words);
  }
  const int cause = errno;
  [[maybe_unused]] const auto written = ::write(report, &cause, sizeof cause);
  ::_exit(127);
}

/// The child's group. Throws UsageError where the program cannot be started.
pid_t start(const ChildRun& child, const HeldSignals& signals) {
  std::vector<char*> words;
  for (const auto& word : child.words) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const Descriptor output(
      ::open(child.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  const Descriptor nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::array<int, 2> ends{-1, -1};
  if (output.get() < 0 || nothing.get() < 0 || ::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw Error(detail::join(child.output.string(), ": ", std::strerror(errno)));
  }
  // The lock belongs to the open file: it lasts until the last process has closed its output.
  ::flock(output.get(), LOCK_EX | LOCK_NB);
  Descriptor reading(ends[0]), writing(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t group = ::fork();
  if (group < 0) throw Error(detail::join("no process can be started: ", std::strerror(errno)));
  if (group == 0) {
    become(words.data(), output.get(), nothing.get(), writing.get(), parent, signals.before());
  }
  ::setpgid(group, group);  // as the child does: whoever comes first
  writing.close();
  int cause = 0;
  if (::read(reading.get(), &cause, sizeof cause) == sizeof cause) {
    ::waitpid(group, nullptr, 0);
    throw UsageError(
        detail::join("'", child.words[0], "' cannot be started: ", std::strerror(cause)));
  }
  return group;
}

int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

/// Whether the child has ended, with its code.
bool has_ended_with(pid_t child, int& code) {
  int status = 0;
  if (::waitpid(child, &status, WNOHANG) != child) return false;
  code = code_of(status);
  return true;
}

/// Ends a child that goes on, and waits until it has.
int end_child(pid_t group, HeldSignals& signals) {
  ::kill(-group, SIGTERM);
  int code = 0;
  const Stopwatch since;
  while (!has_ended_with(group, code)) {
    if (since.elapsed_s() > kGrace) ::kill(-group, SIGKILL);
    signals.wait(kLook);
  }
  return code;
}

}  // namespace

HeldSignals::HeldSignals() {
  ::signal(SIGCHLD, SIG_DFL);  // where it is ignored, nobody learns how a child has ended
  ::sigemptyset(&held_);
  ::sigaddset(&held_, SIGCHLD);
  for (const int each : {SIGINT, SIGTERM, SIGHUP}) {
    if (!is_ignored(each)) ::sigaddset(&held_, each);
  }
  ::pthread_sigmask(SIG_BLOCK, &held_, &before_);
}

HeldSignals::~HeldSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

int HeldSignals::wait(double seconds) {
  double whole = 0;
  const double rest = std::modf(seconds, &whole);
  const timespec limit{static_cast<time_t>(whole), static_cast<long>(1e9 * rest)};
  const int got = ::sigtimedwait(&held_, nullptr, &limit);
  return got > 0 && got != SIGCHLD ? got : 0;
}

bool has_left(const std::filesystem::path& output, double seconds) {
  const Descriptor file(::open(output.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return true;
  const Stopwatch since;
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    if (since.elapsed_s() > seconds) return false;
    ::usleep(100'000);
  }
  return true;
}

ChildEnd run_child(const ChildRun& child, HeldSignals& signals) {
  const pid_t group = start(child, signals);
  ChildEnd end;
  const Stopwatch since;
  while (!has_ended_with(group, end.code)) {
    end.timed_out = since.elapsed_s() > child.limit_s;
    if (!end.timed_out) end.stopped_by = signals.wait(kLook);
    if (!end.timed_out && end.stopped_by == 0) continue;
    end.code = end_child(group, signals);
    break;
  }
  ::kill(-group, SIGKILL);  // whom the program has left behind
  return end;
}

}  // namespace isobar
