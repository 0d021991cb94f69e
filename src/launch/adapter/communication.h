#pragma once
// Whether the hosts of a training can talk to one another, by what their devices' profiles say.

#include <string>
#include <vector>

#include "launch/job.h"

namespace flagscale::launch {

// The warnings that these hosts deserve; a type without a profile says nothing. `backend`: what
// torch.distributed is told to use, "" where it is left to the engine. Devices of unlike vendors have no
// library in common, so that one which is made for that (FlagCX), or processors' (Gloo), has to be chosen;
// and a vendor's own back end is not there on another's devices.
std::vector<std::string> communication_warnings(const std::vector<Host>& hosts, const std::string& backend);

}  // namespace flagscale::launch
