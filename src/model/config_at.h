#pragma once
// A model's description from wherever its weights lie: a Hugging Face folder, a GGUF file or one of our
// checkpoints.

#include <string>

#include "io/checkpoint.h"
#include "io/gguf.h"
#include "model/decoder/config.h"

namespace flagscale::model {

enum class ModelKind { kFolder, kGguf, kCheckpoint };

// Throws Error: kNotFound where there is nothing, kCorrupt for a file that is no GGUF, kInvalidArgument for
// what is an adapter of a model.
ModelKind kind_of(const std::string& path);

// Errors name the path and what is missing there.
DecoderConfig config_at(const std::string& path);

DecoderConfig config_of(const io::GgufFile& file, const std::string& path);
DecoderConfig config_of(const io::Checkpoint& checkpoint);
DecoderConfig config_of_folder(const std::string& folder);

}  // namespace flagscale::model
