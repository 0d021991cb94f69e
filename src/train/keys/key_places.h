#pragma once
// Where the keys that a refusal names are set.

#include <map>
#include <string>

#include "base/error.h"

namespace flagscale::train {

// `error`, and a line for each key of `places` (name to "train.yaml:12: train.model.seq_length") that stands
// in its message as a word, unless its place does too. Only what the caller chose has such lines: kConfig,
// kUnsupported and kInvalidArgument.
Error with_places(const std::map<std::string, std::string>& places, const Error& error);

}  // namespace flagscale::train
