#include "launch/run/output_copies.h"

#include "base/log.h"
#include "launch/job_files.h"

namespace flagscale::launch {

void OutputCopies::write(const NodeTask& task, std::string_view bytes) {
  if (!job_.no_shared_fs || (task.host.is_here() && job_.container.empty())) return;
  const auto path = copied_output(task.output, task.rank, task.host.name);
  const auto [it, is_new] = files_.try_emplace(task.rank);
  std::ofstream& file = it->second;
  if (is_new) file.open(path, std::ios::binary | std::ios::app);
  if (!file) return;
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush();
  if (!file)
    warn("cannot write {}: what rank {} says is kept on {} alone", path.string(), task.rank, task.host.name);
}

}  // namespace flagscale::launch
