// SPDX-License-Identifier: Apache-2.0
// A plan as the script that a careful colleague would write. Nothing is decided here but how it is
// said: every word of a user's goes through shell_text, every option of sbatch through Directives,
// so that no name or path can become another option or command.
#include <isobar/cluster/job.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/shell_text.hpp"

namespace isobar {
namespace {

/// For words of others in a comment.
std::string on_one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return text;
}

/// The lines "#SBATCH --name=value".
class Directives {
 public:
  void add(const std::string& name, const std::string& value) {
    ISOBAR_CHECK(is_one_line(value), "job: --", name, " holds a line end or another control ",
                 "character, which Slurm does not take: ", quoted(value));
    add_line("--" + name + "=" + quoted(value), name);
  }
  void add_if(bool wanted, const std::string& name, const std::string& value) {
    if (wanted) add(name, value);
  }

  /// As it stands; of the machine's own, or of the user's.
  void add_raw(const std::string& option) {
    const auto name = subject_of(name_of(option));
    ISOBAR_CHECK(option.size() > 1 && option[0] == '-' && is_one_line(option), "job: '",
                 on_one_line(option), "' is no option of sbatch, wanted one such as ",
                 "--constraint=rack1");
    const bool is_new = std::find(names_.begin(), names_.end(), name) == names_.end();
    ISOBAR_CHECK(!is_of_another_kind(name), "job: the directive '", option,
                 "' would make of it what ",
                 "isobar does not follow; submit a script of your own with sbatch");
    ISOBAR_CHECK(is_new, "job: the directive '", option, "' would say again what the script says ",
                 "by --", name, "; leave it out and set the job's own value");
    add_line(option, name);
  }

  const std::string& text() const { return text_; }

 private:
  void add_line(const std::string& option, const std::string& name) {
    text_ += "#SBATCH " + option + "\n";
    names_.push_back(name);
  }

  /// Options after which the job is not the one that `status` and `logs` know, or none.
  static bool is_of_another_kind(const std::string& name) {
    static const std::set<std::string> kinds{"array",    "chdir",     "error", "export-file",
                                             "parsable", "test-only", "wait",  "wrap"};
    return kinds.count(name) > 0;
  }

  /// Several options say how many ranks or GPUs there are.
  static std::string subject_of(const std::string& name) {
    static const std::set<std::string> gpus{"gpus", "gpus-per-node", "gpus-per-task", "gres"};
    if (gpus.count(name) > 0) return "gpus";
    return name == "ntasks" ? "ntasks-per-node" : name;
  }

  /// Without dashes and value; the long name where a short one is of an option written here.
  static std::string name_of(const std::string& option) {
    static const std::pair<const char*, const char*> kLong[] = {
        {"-J", "job-name"}, {"-A", "account"}, {"-p", "partition"},     {"-q", "qos"},
        {"-N", "nodes"},    {"-t", "time"},    {"-c", "cpus-per-task"}, {"-o", "output"},
        {"-a", "array"},    {"-D", "chdir"},   {"-d", "dependency"},    {"-e", "error"},
        {"-G", "gpus"},     {"-n", "ntasks"},  {"-W", "wait"},
    };
    for (const auto& [letter, name] : kLong) {
      if (option.rfind(letter, 0) == 0) return name;
    }
    const auto begin = std::min(option.find_first_not_of('-'), option.size());
    return option.substr(begin, option.find_first_of("= ", begin) - begin);
  }

  std::string text_;
  std::vector<std::string> names_;
};

std::string absolute(const std::string& path, const char* what) {
  ISOBAR_CHECK(!path.empty() && path[0] == '/' && is_one_line(path), "job: the ", what, " '",
               on_one_line(path), "' is no absolute path on one line");
  return path;
}

/// Slurm reads '%' and '\' in the path of an output file in its own way.
std::string output_of(const JobRequest& request) {
  const auto path = absolute(
      request.output.empty() ? request.folder + "/slurm-%j.out" : request.output, "output file");
  for (std::size_t at = 0; at < path.size(); ++at) {
    const bool taken = path[at] == '\\' || (path[at] == '%' && path.compare(at, 2, "%j") != 0);
    ISOBAR_CHECK(!taken, "job: the output file '", path, "' holds '", path[at], "', which Slurm ",
                 "would replace; choose a folder without (%j, the job's number, may be there)");
  }
  return path;
}

Directives directives_of(const ClusterProfile& profile, const JobRequest& request,
                         const JobPlan& plan) {
  Directives lines;
  lines.add("job-name", request.name.empty() ? "isobar" : request.name);
  lines.add_if(!plan.account.empty(), "account", plan.account);
  lines.add_if(!plan.queue.partition.empty(), "partition", plan.queue.partition);
  lines.add_if(!plan.queue.qos.empty(), "qos", plan.queue.qos);
  lines.add_if(!request.reservation.empty(), "reservation", request.reservation);
  lines.add("nodes", std::to_string(plan.nodes));
  lines.add("ntasks-per-node", std::to_string(plan.ranks_per_node));
  lines.add("cpus-per-task", std::to_string(plan.cpus_per_rank));
  if (!profile.slurm.gpu_request.empty()) lines.add_raw(profile.slurm.gpu_request);
  if (profile.slurm.exclusive) lines.add_raw("--exclusive");
  if (request.spares > 0) lines.add_raw("--no-kill");  // the job outlives a node of its own
  lines.add_if(plan.minutes > 0, "time", minutes_text(plan.minutes));
  lines.add_if(plan.signal_minutes > 0, "signal", fmt::format("USR1@{}", 60 * plan.signal_minutes));
  lines.add("output", output_of(request));
  lines.add("open-mode", "append");
  lines.add_raw(request.requeue ? "--requeue" : "--no-requeue");
  if (!request.mail.empty()) {
    lines.add("mail-user", request.mail);
    lines.add("mail-type", "END,FAIL");
  }
  for (const auto& option : profile.slurm.directives) {
    if (option != "--exclusive" || !profile.slurm.exclusive) lines.add_raw(option);
  }
  for (const auto& option : request.directives) lines.add_raw(option);
  return lines;
}

std::string head_of(const ClusterProfile& profile, const JobPlan& plan) {
  std::string text = "#!/bin/bash\n";
  text += fmt::format("# Written by isobar for {}, queue '{}'.\n", on_one_line(profile.title),
                      plan.queue.name);
  if (!plan.queue.note.empty()) {
    text += fmt::format("# Of this queue: {}.\n", on_one_line(plan.queue.note));
  }
  for (const auto& warning : plan.warnings) {
    text += fmt::format("# Note: {}.\n", on_one_line(warning));
  }
  return text;
}

std::string modules_text(const JobPlan& plan) {
  if (plan.modules.empty()) return {};
  std::string text = R"(
set +u  # the function 'module' reads variables that are not set
if ! type -t module >/dev/null; then
  # shellcheck source=/dev/null
  source /etc/profile || true
fi
module purge
)";
  for (const auto& module : plan.modules) {
    // "use FOLDER" adds a folder of modules.
    const bool is_use = module.rfind("use ", 0) == 0;
    text += is_use ? "module use " + quoted_with_variables(module.substr(4)) + "\n"
                   : "module load " + quoted(module) + "\n";
  }
  return text + "set -u\n";
}

void check_variable(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  const bool is_name = !name.empty() && std::all_of(name.begin(), name.end(), fits) &&
                       !(name[0] >= '0' && name[0] <= '9');
  ISOBAR_CHECK(is_name, "job: '", on_one_line(name), "' is no name of an environment variable; ",
               "wanted letters, digits and '_', a digit not first");
}

std::string environment_text(const JobRequest& request, const JobPlan& plan) {
  std::string text = R"(
# srun does not take the number of cores from sbatch.
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
# Ranks find rank 0 by Slurm's step; what the submitting shell has would mislead them.
unset MASTER_ADDR MASTER_PORT
# They get this environment, also where sbatch was told to hand on none.
unset SLURM_EXPORT_ENV
)";
  for (const auto& [name, value] : plan.environment) {
    check_variable(name);
    ISOBAR_CHECK(name != "ISOBAR_SECRET",
                 "job: ISOBAR_SECRET would stand in the script, which others may read; "
                 "name a file of yours by ISOBAR_SECRET_FILE");
    ISOBAR_CHECK(name != "PATH",
                 "job: PATH would be the script's as well, which then finds no srun; "
                 "set it in a script that the ranks run");
    ISOBAR_CHECK(value.find('\0') == std::string::npos, "job: the value of ", name,
                 " holds a zero byte, which no environment takes");
    const auto& own = request.environment;
    const bool is_literal =
        std::any_of(own.begin(), own.end(),
                    [&variable = name](const auto& each) { return each.first == variable; });
    text += fmt::format("export {}={}\n", name,
                        is_literal ? quoted(value) : quoted_with_variables(value));
  }
  return text;
}

/// Variables of a shell that a job may lack, where `text` has them.
std::string defaults_text(const std::string& text) {
  std::string defaults;
  for (const auto& [name, value] : {std::pair{"USER", "$(id -un)"}, std::pair{"TMPDIR", "/tmp"}}) {
    const bool is_used = text.find(fmt::format("${}", name)) != std::string::npos ||
                         text.find(fmt::format("${{{}}}", name)) != std::string::npos;
    if (is_used) defaults += fmt::format("export {0}=\"${{{0}:-{1}}}\"\n", name, value);
  }
  return defaults.empty() ? defaults : "\n" + defaults;
}

bool is_below(const std::string& path, const std::string& folder) {
  return path == folder || path.rfind(folder + "/", 0) == 0;
}

/// "singularity exec --nv --bind=/p image", with the job's folders among what is seen inside.
std::string container_text(const ClusterProfile& profile, const JobRequest& request) {
  auto binds = profile.container.binds;
  auto folders = request.folders;
  folders.insert(folders.begin(), request.folder);
  for (const auto& folder : folders) {
    const bool seen = std::any_of(binds.begin(), binds.end(),
                                  [&](const std::string& bind) { return is_below(folder, bind); });
    if (seen) continue;
    ISOBAR_CHECK(folder.find_first_of(",:$") == std::string::npos, "job: the folder '", folder,
                 "' holds ',', ':' or '$', which --bind of a container would ",
                 "read otherwise; choose another");
    binds.push_back(folder);
  }
  return fmt::format("{} --bind={} {}", profile.container.command,
                     quoted_with_variables(join_words(binds, ",")), quoted(request.container));
}

/// What each rank runs before it becomes the program, with its comments; empty where nothing.
std::string rank_text(const ClusterProfile& profile, const JobRequest& request,
                      const JobPlan& plan) {
  std::string comments, commands;
  const auto& variable = profile.binding.gpu_visibility;
  if (!variable.empty()) {
    check_variable(variable);
    comments += "# Each rank sees its own GPU alone.\n";
    commands += fmt::format("export {}=$SLURM_LOCALID; ", variable);
  }
  // A script of the user's could not trap what was ignored when it began.
  if (plan.signal_minutes > 0 && !request.is_own_program) {
    comments += "# The signal before the end would end a program that does not handle it.\n";
    commands += "trap \"\" USR1; ";
  }
  if (commands.empty()) return {};
  return fmt::format("{}# shellcheck disable=SC2016\nrank='{}exec \"$@\"'\n", comments, commands);
}

std::vector<std::string> srun_lines(const ClusterProfile& profile, const JobRequest& request,
                                    const JobPlan& plan, bool has_rank_text) {
  std::vector<std::string> lines{"srun"};
  if (request.spares > 0) {
    lines.push_back(fmt::format("--nodes={} --ntasks={} ${{lost:+--exclude=\"$lost\"}}",
                                request.nodes, std::int64_t{request.nodes} * plan.ranks_per_node));
  }
  lines.push_back("--cpu-bind=" + plan.cpu_bind);
  if (!profile.slurm.srun_options.empty()) lines.push_back(profile.slurm.srun_options);
  lines.push_back(request.is_own_program ? "--kill-on-bad-exit=1" : "--kill-on-bad-exit=0");
  if (has_rank_text) lines.push_back("bash -c \"$rank\" rank");
  if (!request.container.empty()) lines.push_back(container_text(profile, request));
  lines.push_back(quoted(request.command));
  return lines;
}

/// Calls srun, and again where nodes were lost, as long as there are spares.
std::string spares_text(const JobRequest& request, const JobPlan& plan, const std::string& srun) {
  return fmt::format(
             "# {} of the {} nodes {} spare: without those that Slurm has lost, it begins again.\n",
             request.spares, plan.nodes, request.spares == 1 ? "is" : "are") +
         R"sh(lost_nodes() {
  {
    sinfo --noheader --Node --nodes="$SLURM_JOB_NODELIST" --states=down,drain,fail --format=%N
    # A node that was lost is the job's no more, even if it answers again.
    held=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%N 2>/dev/null) || held=
    [[ -z $held ]] || comm -23 <(scontrol show hostnames "$SLURM_JOB_NODELIST" | sort) \
      <(scontrol show hostnames "$held" | sort)
  } | sort -u | paste -sd, - || true
}
lost=$(lost_nodes)
while true; do
  code=0
)sh" + srun +
         R"sh(  before=$lost
  lost=$(lost_nodes)
  if [[ $code -eq 0 || $lost == "$before" ]]; then break; fi
  echo "nodes lost: $lost; the ranks begin again on others"
done
)sh";
}

std::string run_text(const ClusterProfile& profile, const JobRequest& request,
                     const JobPlan& plan) {
  const auto rank = rank_text(profile, request, plan);
  std::string text = "\n" + rank + "# The shell outlives the ranks and hands on their code.";
  text += request.is_own_program
              ? "\n"
              : " They end together by themselves,\n"
                "# and rank 0 says why, so Slurm need not kill the others when one fails.\n";
  text += "trap : TERM\n";
  const auto srun =
      join_words(srun_lines(profile, request, plan, !rank.empty()), " \\\n  ") + " || code=$?\n";
  return text + (request.spares > 0 ? spares_text(request, plan, srun) : "code=0\n" + srun);
}

/// Without Slurm.
std::string mpirun_text(const ClusterProfile& profile, const JobRequest& request,
                        const JobPlan& plan) {
  std::vector<std::string> words{"mpirun", "-n", std::to_string(plan.ranks_per_node)};
  for (const auto& [name, value] : request.environment) {
    words.push_back("-x");
    words.push_back(name + "=" + value);
  }
  const auto container =
      request.container.empty() ? std::string() : " " + container_text(profile, request);
  return quoted(words) + container + " " + quoted(request.command);
}

}  // namespace

std::string shell_word(const std::string& word) { return quoted(word); }

std::string batch_script(const ClusterProfile& profile, const JobRequest& request,
                         const JobPlan& plan) {
  ISOBAR_CHECK(!request.command.empty() && !request.command[0].empty(),
               "job: no command is given; say what every rank runs, such as isobar train x.yaml");
  ISOBAR_CHECK(profile.slurm.launcher == "srun", "job on ", profile.name,
               ": there is no Slurm to hand a script to; run ",
               mpirun_text(profile, request, plan));
  const auto folder = absolute(request.folder, "folder");
  std::string text = head_of(profile, plan);
  text += directives_of(profile, request, plan).text();
  text += R"sh(
set -euo pipefail
trap 'echo "job $SLURM_JOB_ID ended with code $? after $SECONDS s"' EXIT
)sh";
  text += modules_text(plan);
  const auto run = run_text(profile, request, plan);
  const auto environment = environment_text(request, plan);
  text += defaults_text(environment + run) + environment;
  text += "\ncd " + quoted(folder) + "\n";
  text += R"sh(echo "job $SLURM_JOB_ID, restart ${SLURM_RESTART_COUNT:-0}, $(date -u +%FT%TZ)"
echo "nodes $SLURM_JOB_NODELIST"
)sh";
  return text + run + "\nexit \"$code\"\n";
}

}  // namespace isobar
