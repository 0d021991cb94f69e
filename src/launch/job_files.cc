#include "launch/job_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/whole_file.h"
#include "launch/shell_quote.h"

namespace flagscale::launch {
namespace {

namespace fs = std::filesystem;

// A flag and its values a line.
std::string words_over_lines(const std::vector<std::string>& argv) {
  std::string text;
  for (const std::string& one : argv)
    text += (text.empty() ? "" : one.starts_with("--") ? " \\\n  " : " ") + shell_quote(one);
  return text;
}

nlohmann::ordered_json json_of(const Job& job, const NodeTask& task) {
  nlohmann::ordered_json node{{"host", task.host.name},
                              {"rank", task.rank},
                              {"env", task.command.env},
                              {"argv", task.command.argv},
                              {"directory", task.command.directory.string()},
                              {"output", task.output.string()}};
  for (const Command& command : task.prepare) node["prepare"].push_back(command.argv);
  if (!job.container.empty()) node["container"] = job.container;
  return node;
}

}  // namespace

std::string shell_text(const Command& command) { return words_over_lines(command.argv); }

std::string run_script(const Job& job, const NodeTask& task) {
  std::string text = fmt::format(
      "#!/bin/bash\n# What runs on {} as rank {}, for reading: flagscale starts the command itself, without "
      "a shell.\n",
      task.host.name, task.rank);
  if (!job.container.empty()) text += fmt::format("# In its container {}.\n", job.container);
  for (const auto& [key, value] : task.command.env) text += "export " + key + "=" + shell_quote(value) + "\n";
  text += "mkdir -p";
  for (const fs::path& folder : job.folders) text += " " + shell_quote(folder.string());
  text += "\ncd " + shell_quote(task.command.directory.string()) + "\n";
  if (!job.before_start.empty()) text += job.before_start + "\n";
  for (const Command& command : task.prepare) text += words_over_lines(command.argv) + " || exit\n";
  return text + "exec " + words_over_lines(task.command.argv) + " >> " + shell_quote(task.output.string()) +
         " 2>&1\n";
}

std::string to_json(const Job& job) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const NodeTask& task : job.nodes) list.push_back(json_of(job, task));
  return list.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

fs::path copied_output(const fs::path& output, int rank, const std::string& host) {
  if (output.filename() != "host.output") return output;
  return output.parent_path() / fmt::format("host_{}_{}.output", rank, host);
}

fs::path output_here(const fs::path& output, int rank, const std::string& host) {
  std::error_code none;
  const fs::path copy = copied_output(output, rank, host);
  return fs::exists(copy, none) ? copy : output;
}

void write_job_files(const Job& job) {
  for (const JobFile& file : job.files) write_whole_file(file.path, file.text);
  for (const NodeTask& task : job.nodes) {
    const fs::path script = job.log / "scripts" / fmt::format("host_{}_{}_run.sh", task.rank, task.host.name);
    write_whole_file(script, run_script(job, task));
    std::error_code ignored;
    fs::permissions(script, fs::perms::owner_exec, fs::perm_options::add, ignored);
  }
}

}  // namespace flagscale::launch
