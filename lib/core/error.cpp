// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
