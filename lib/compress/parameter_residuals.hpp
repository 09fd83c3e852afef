// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/ddp/compressor.hpp>

#include <string>
#include <vector>

namespace isobar {

/// The residual of a parameter's gradient, or of the run of it that lies on this rank.
struct ParameterResidual {
  int64_t parameter = 0;
  std::string name;
  int64_t first = 0;           ///< of the gradient's elements, in the order of memory
  at::Tensor values;           ///< [elements], float or double
  std::vector<int64_t> sizes;  ///< of the parameter
};

/// The tensor of that name in a state, or null.
const at::Tensor* saved_tensor(const CompressorState& state, const std::string& key);

/// 16-bit floats are too coarse for sums of small remainders.
at::ScalarType residual_type(at::ScalarType gradient);

/// Puts what `from` holds of each parameter into `to`, under a new plan, which may be another
/// reducer's: of those that have the same name and shape. `share_holders` as in
/// Compressor::set_plan(): with shares, a plan cuts parameters elsewhere than the one before,
/// and residuals come from the ranks that had them. Blocks.
void carry_over(const std::vector<ParameterResidual>& from,
                const std::vector<ParameterResidual>& to,
                const std::vector<NamedParameter>& parameters, Communicator* share_holders);

/// Adds copies to a state: tensors "<parameter>.residual" and counts "<parameter>.first".
void save(const std::vector<ParameterResidual>& residuals, CompressorState& state);

/// Throws DataError, naming it, where a residual in the state does not fit.
void check_fits(const std::vector<ParameterResidual>& residuals, const CompressorState& state);

/// Takes over residuals that fit; zero where the state has none.
void load_residuals(const std::vector<ParameterResidual>& residuals, const CompressorState& state);

/// A count that a state must have; throws DataError.
int64_t count_of(const CompressorState& state, const std::string& key);

}  // namespace isobar
