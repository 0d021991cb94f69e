#pragma once
// A job that was handed to a batch system, as its experiment's folder remembers it: so that it can be asked
// for and ended later, from where it was submitted.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "launch/launcher/batch_system.h"

namespace flagscale::launch {

struct Submission {
  std::string system, id;  // "slurm" and what BatchSystem::submit() named it
  std::string space;       // Kubernetes' namespace
  std::string name, task, engine;
  std::filesystem::path log;
  int nodes = 1;
  double submitted = 0;  // s since 1970

  BatchJob job() const;  // as much of it as its output needs
  std::unique_ptr<BatchSystem> batch_system() const;
};

// In its folder of records. Throws Error{kResource}.
void write_submission(const std::filesystem::path& experiment, const Submission& submission);
// The last one. Throws Error{kCorrupt} for a file that cannot be read.
std::optional<Submission> read_submission(const std::filesystem::path& experiment);

// Cancels it and waits for its end; of one that is over it removes what is left. Throws Error{kBusy} after
// `patience` seconds.
BatchState stop_submission(const Submission& submission, double patience = 600);

}  // namespace flagscale::launch
