// SPDX-License-Identifier: Apache-2.0
// Words as bash and sbatch read them. Both take quotes in the same way: sbatch reads the options of
// its "#SBATCH" lines like a shell, without variables.
#pragma once

#include <string>
#include <vector>

namespace isobar {

/// The word, in single quotes where the shell would see more in it than a word.
std::string quoted(const std::string& word);

std::string quoted(const std::vector<std::string>& words);

/// In double quotes where it needs any, so that $NAME and ${NAME} are the job's variables and
/// nothing else is read into it.
std::string quoted_with_variables(const std::string& text);

/// Whether a value can stand on a line of its own: no line ends, no other control characters.
bool is_one_line(const std::string& text);

}  // namespace isobar
