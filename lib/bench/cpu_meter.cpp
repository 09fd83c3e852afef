// SPDX-License-Identifier: Apache-2.0
#include "bench/cpu_meter.hpp"

#include <time.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace isobar::bench {
namespace {

double clock_s(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

void CpuMeter::resume() {
  process_s_ -= clock_s(CLOCK_PROCESS_CPUTIME_ID);
  thread_s_ -= clock_s(CLOCK_THREAD_CPUTIME_ID);
  wall_s_ -= clock_s(CLOCK_MONOTONIC);
}

void CpuMeter::pause() {
  wall_s_ += clock_s(CLOCK_MONOTONIC);
  thread_s_ += clock_s(CLOCK_THREAD_CPUTIME_ID);
  process_s_ += clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

double machine_softirq_s() {
  std::ifstream stat("/proc/stat");
  std::string cpu;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0;
  stat >> cpu >> user >> nice >> system >> idle >> iowait >> irq >> softirq;
  return stat ? softirq / static_cast<double>(sysconf(_SC_CLK_TCK)) : 0;
}

}  // namespace isobar::bench
