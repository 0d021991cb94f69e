#pragma once
// A job of one process which is this one: its launcher and its only rank. It has the lock, the record and the
// log of any other; nothing is started, watched or started again.

#include <functional>

#include "launch/job.h"
#include "launch/record/run_record.h"

namespace flagscale::launch {

// Runs `work`, which calls `begin` once nothing stands in its way and before it writes anything: what is
// refused until then leaves no trace. Where the record cannot be kept a warning is all. Throws what `work`
// throws; Error{kBusy}, before or in begin(), while another run of the experiment is there.
void run_in_this_process(const Job& job, const std::function<RunOrigin()>& origin,
                         const std::function<void(const std::function<void()>& begin)>& work);

}  // namespace flagscale::launch
