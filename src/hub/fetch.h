#pragma once
// Models of the hub, fetched into the cache: resumed where a download was cut off, every file checked against
// the checksum that the hub names it by.

#include <string>

#include "hub/settings.h"

namespace flagscale::hub {

// A path to load the model from: its snapshot's folder, or the .gguf file that id.file names. What is wholly
// in the cache is used as it is, without network, unless `refresh` asks the hub whether the revision has
// moved.
//
// Errors: kNotFound (no such model, revision or file; the hub's answer is given), kResource (no network, disk
// full: what has come stays for the next try), kCorrupt (a checksum), kUnsupported (no safetensors and no
// .gguf), kInvalidArgument (several .gguf files and none chosen: they are listed), kInterrupted.
std::string fetch_model(const ModelId& id, const Settings& settings, bool refresh = false);

}  // namespace flagscale::hub
