// SPDX-License-Identifier: Apache-2.0
// Jobs on their way into Slurm and, later, what became of them. Called by one process, on a login
// node. A job counts as submitted once it stands in jobs.jsonl: it is written down as soon as
// sbatch has named it, and a chain of which a link is refused is taken back whole.
#include <isobar/cluster/submit.hpp>

#include "cluster/slurm_call.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/record.hpp>
#include <isobar/core/text.hpp>
#include <isobar/launch/environment.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <ctime>
#include <fstream>
#include <regex>
#include <sstream>
#include <system_error>
#include <utility>

namespace isobar {
namespace {

namespace fs = std::filesystem;

constexpr const char* kList = "jobs.jsonl";

nlohmann::json to_json(const SubmittedJob& job) {
  return {{"id", job.id},
          {"cluster", job.cluster},
          {"script", job.script},
          {"output", job.output},
          {"submitted_at", job.submitted_at},
          {"link", job.link},
          {"links", job.links},
          {"nodes", job.nodes},
          {"minutes", job.minutes},
          {"command", job.command}};
}

SubmittedJob from_json(const nlohmann::json& line) {
  return {.id = line.at("id"),
          .cluster = line.at("cluster"),
          .script = line.at("script"),
          .output = line.at("output"),
          .submitted_at = line.at("submitted_at"),
          .link = line.at("link"),
          .links = line.at("links"),
          .nodes = line.at("nodes"),
          .minutes = line.at("minutes"),
          .command = line.value("command", std::vector<std::string>())};
}

/// With the job's number in place of %j, as Slurm names the file.
std::string output_path(const std::string& pattern, const std::string& id) {
  return std::regex_replace(pattern, std::regex("%j"), id);
}

fs::path make_folder(const fs::path& folder) {
  const auto place = fs::absolute(folder).lexically_normal();
  std::error_code failure;
  fs::create_directories(place, failure);
  if (failure) {
    throw Error(
        fmt::format("folder of jobs '{}' cannot be made: {}", place.string(), failure.message()));
  }
  return place;
}

/// Sites print lines of their own around the number; in a federation a cluster's name follows it.
std::string job_number(const std::string& said) {
  static const std::regex number("^([0-9]+)(;.*)?$");
  std::istringstream stream(said);
  std::string found;
  for (std::string line; std::getline(stream, line);) {
    std::smatch match;
    if (std::regex_match(line, match, number)) found = match[1];
  }
  return found;
}

/// SBATCH_ACCOUNT, SBATCH_TIMELIMIT and their like in the environment go before what the script
/// says: sbatch does not get them.
std::vector<std::string> sbatch_words(const std::vector<std::string>& options) {
  std::vector<std::string> words{"env"};
  for (const auto& [name, value] : environment_variables()) {
    if (name.rfind("SBATCH_", 0) == 0) words.push_back("--unset=" + name);
  }
  if (words.size() == 1) words.clear();
  words.emplace_back("sbatch");
  words.insert(words.end(), options.begin(), options.end());
  return words;
}

/// The number of the job that sbatch has queued, to start once the job `after` has ended. `note` is
/// what it said besides.
std::string queue_script(const fs::path& script, const std::string& after, std::string& note) {
  auto words = sbatch_words({"--parsable"});
  if (!after.empty()) words.push_back("--dependency=afterany:" + after);
  words.push_back(script.string());
  const auto answer = ask_slurm(words);
  ISOBAR_CHECK(answer.code == 0, "sbatch refuses ", script.string(), ": ", one_line(answer.text));
  const auto id = job_number(answer.text);
  ISOBAR_CHECK(!id.empty(), "sbatch named no job for ", script.string(),
               ", it said: ", one_line(answer.text), "; look at squeue before you submit again");
  const std::regex number("(^|\n)" + id + "[^\n]*");
  note = one_line(std::regex_replace(answer.text, number, ""));
  if (note == "nothing") note.clear();
  return id;
}

/// Takes jobs back; says what came of it.
std::string take_back(const std::vector<std::string>& ids) {
  std::vector<std::string> words{"scancel"};
  words.insert(words.end(), ids.begin(), ids.end());
  const auto answer = ask_slurm(words);
  const auto jobs = (ids.size() == 1 ? "job " : "jobs ") + join_words(ids);
  if (answer.code == 0) return "cancelled what was queued by then: " + jobs;
  return jobs + " stay queued, since scancel said: " + one_line(answer.text);
}

/// The text behind "KEY=" in scontrol's line; empty for what means none.
std::string field(const std::string& line, const std::string& key) {
  const auto at = (" " + line).find(" " + key + "=");
  if (at == std::string::npos) return {};
  const auto begin = at + key.size() + 1;
  auto value = line.substr(begin, line.find_first_of(" \n", begin) - begin);
  return value == "(null)" || value == "None" ? "" : value;
}

/// Throws Error for an answer that is none.
JobState from_scontrol(const std::string& id, const std::string& line) {
  static const std::regex word("[A-Z_]+"), number("[0-9]{1,6}");
  JobState job{.id = id,
               .state = field(line, "JobState"),
               .reason = field(line, "Reason"),
               .nodes = field(line, "NodeList"),
               .elapsed = field(line, "RunTime")};
  if (!std::regex_match(job.state, word)) {
    throw Error("scontrol names no state of the job, it said: " + one_line(line));
  }
  if (has_ended(job)) job.exit_code = field(line, "ExitCode");
  const auto restarts = field(line, "Restarts");
  if (std::regex_match(restarts, number)) job.restarts = std::stoi(restarts);
  return job;
}

Answer ask_sacct(const std::string& id) {
  try {
    return ask_slurm({"sacct", "--jobs", id, "--noheader", "--parsable2", "--allocations",
                      "--duplicates", "--format", "State,Reason,NodeList,Elapsed,ExitCode"});
  } catch (const UsageError&) {
    return {.code = 1, .text = "sacct is not on the PATH"};
  }
}

/// Each life of a job that was requeued has a line; the last is the newest. A machine may have no
/// accounting, or one that is down: then the job is unknown, and the reason says so.
JobState from_sacct(const std::string& id) {
  const auto answer = ask_sacct(id);
  JobState job{.id = id, .state = "UNKNOWN", .reason = "scontrol has forgotten it, "};
  job.reason += answer.code == 0 && answer.text.empty() ? "sacct does not know it"
                                                        : "sacct says: " + one_line(answer.text);
  if (answer.code != 0) return job;
  std::istringstream stream(answer.text);
  int lives = 0;
  for (std::string line; std::getline(stream, line);) {
    static const std::regex columns(R"((\w+)[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*))");
    std::smatch match;
    if (!std::regex_match(line, match, columns)) continue;
    job = {.id = id,
           .state = match[1],
           .reason = match[2] == "None" ? "" : match[2].str(),
           .nodes = match[3] == "None assigned" ? "" : match[3].str(),
           .elapsed = match[4],
           .exit_code = match[5],
           .restarts = lives++};
    if (!has_ended(job)) job.exit_code.clear();
  }
  return job;
}

}  // namespace

std::vector<SubmittedJob> submit_job(const ClusterProfile& profile, const JobRequest& request,
                                     const JobPlan& plan, const std::filesystem::path& folder,
                                     int links) {
  ISOBAR_CHECK(links >= 1, "submit: a chain has 1 link or more, got ", links);
  const auto place = make_folder(folder);
  auto wanted = request;
  if (wanted.output.empty()) wanted.output = (place / "%j.out").string();
  const auto script = place / fmt::format("job-{}.sh", read_jobs(place).size() + 1);
  write_file_atomically(script, batch_script(profile, wanted, plan));
  JsonLines list(place / kList);
  std::vector<SubmittedJob> jobs;
  std::vector<std::string> queued;
  try {
    for (int link = 1; link <= links; ++link) {
      std::string note;
      queued.push_back(queue_script(script, queued.empty() ? "" : queued.back(), note));
      jobs.push_back(
          {.id = queued.back(),
           .cluster = profile.name,
           .script = script.string(),
           .output = output_path(wanted.output, queued.back()),
           .submitted_at = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))),
           .link = link,
           .links = links,
           .nodes = plan.nodes,
           .minutes = plan.minutes,
           .command = request.command,
           .note = std::move(note)});
      list.append(to_json(jobs.back()));
    }
  } catch (const Error& error) {
    if (queued.empty()) throw;
    throw UsageError(detail::join(error.what(), "; ", take_back(queued)));
  }
  return jobs;
}

std::string test_job(const ClusterProfile& profile, const JobRequest& request,
                     const JobPlan& plan) {
  const auto answer =
      ask_slurm(sbatch_words({"--test-only"}), batch_script(profile, request, plan));
  ISOBAR_CHECK(answer.code == 0, "sbatch --test-only refuses the job: ", one_line(answer.text));
  return one_line(answer.text);
}

std::vector<SubmittedJob> read_jobs(const std::filesystem::path& folder) {
  const auto path = folder / kList;
  std::ifstream file(path);
  std::vector<SubmittedJob> jobs;
  std::string line;
  // A last line without its end is one that is being written.
  while (std::getline(file, line) && !file.eof()) {
    try {
      jobs.push_back(from_json(nlohmann::json::parse(line)));
    } catch (const nlohmann::json::exception&) {
      throw DataError(fmt::format("{}:{}: is no line of a job: '{}'; remove it", path.string(),
                                  jobs.size() + 1, line));
    }
  }
  return jobs;
}

JobState job_state(const std::string& id) {
  const auto answer = ask_slurm({"scontrol", "--oneliner", "show", "job", id});
  if (answer.code == 0) return from_scontrol(id, answer.text);
  if (answer.text.find("Invalid job id") != std::string::npos) return from_sacct(id);
  throw Error("scontrol cannot be asked: " + one_line(answer.text));
}

bool has_ended(const JobState& job) {
  static const std::regex going("PENDING|RUNNING|SUSPENDED|COMPLETING|CONFIGURING|REQUEUE.*");
  return !std::regex_match(job.state, going);
}

}  // namespace isobar
