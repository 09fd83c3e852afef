// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace isobar {

/// Naps that grow while nothing happens: what takes microseconds is seen at once,
/// what takes longer costs no core.
class NapsThatGrow {
 public:
  void nap();

 private:
  int naps_ = 0;
};

}  // namespace isobar
