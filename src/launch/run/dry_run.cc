#include "launch/run/dry_run.h"

#include "launch/job_files.h"
#include "launch/record/run_status.h"

namespace flagscale::launch {

std::optional<RunState> write_dry_run(const Job& job) {
  if (const auto run = last_run(job.experiment); run && !is_over(run->state)) return run->state;
  write_job_files(job);
  return {};
}

}  // namespace flagscale::launch
