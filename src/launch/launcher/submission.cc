#include "launch/launcher/submission.h"

#include <chrono>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/whole_file.h"

namespace flagscale::launch {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {
fs::path submission_file(const fs::path& experiment) { return experiment / "records" / "submitted.json"; }
}  // namespace

BatchJob Submission::job() const {
  BatchJob job;
  job.name = name, job.task = task, job.log = log, job.nodes = nodes;
  return job;
}

std::unique_ptr<BatchSystem> Submission::batch_system() const {
  LauncherOptions options;
  options.kubernetes.space = space;
  auto made = make_batch_system(system, options);
  if (!made) fail(ErrorKind::kCorrupt, "{} was submitted to '{}', which is no batch system", name, system);
  return made;
}

void write_submission(const fs::path& experiment, const Submission& one) {
  const Json json{{"system", one.system}, {"id", one.id},       {"space", one.space},
                  {"name", one.name},     {"task", one.task},   {"engine", one.engine},
                  {"log", one.log},       {"nodes", one.nodes}, {"submitted", one.submitted}};
  write_whole_file(submission_file(experiment),
                   json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::optional<Submission> read_submission(const fs::path& experiment) {
  const fs::path file = submission_file(experiment);
  std::ifstream in(file);
  if (!in) return {};
  try {
    const Json json = Json::parse(std::string(std::istreambuf_iterator<char>(in), {}));
    Submission one;
    one.system = json.at("system"), one.id = json.at("id"), one.space = json.at("space");
    one.name = json.at("name"), one.task = json.at("task"), one.engine = json.at("engine");
    one.log = json.at("log").get<std::string>();
    one.nodes = json.at("nodes"), one.submitted = json.at("submitted");
    return one;
  } catch (const Json::exception&) {
    fail(ErrorKind::kCorrupt, "{} is damaged: remove it; the batch system's own commands end its job",
         file.string());
  }
}

BatchState stop_submission(const Submission& submission, double patience) {
  const auto system = submission.batch_system();
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(patience);
  BatchState state = system->state(submission.id);
  if (state.phase == BatchState::Phase::kEnded) {
    system->clear(submission.id);
    return state;
  }
  system->cancel(submission.id);
  while ((state = system->state(submission.id)).phase != BatchState::Phase::kEnded) {
    throw_if_interrupted();
    if (std::chrono::steady_clock::now() > end)
      fail(ErrorKind::kBusy, "{}'s job {} has not ended after {:.0f} s: {}", submission.system, submission.id,
           patience, state.text);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  return state;
}

}  // namespace flagscale::launch
