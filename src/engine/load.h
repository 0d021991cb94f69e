#pragma once
// A model from a path, with what a caller needs around it: a Hugging Face folder, a GGUF file or one of our
// checkpoints.

#include <memory>
#include <string>
#include <vector>

#include "engine/runner.h"
#include "io/weights.h"
#include "model/decoder/config.h"
#include "text/tokenizer.h"

namespace flagscale::engine {

struct LoadedModel {
  std::string path;
  model::DecoderConfig config;
  std::unique_ptr<io::WeightSet> weights;
  std::unique_ptr<text::Tokenizer> tokenizer;  // null: the model brings none
  std::vector<int32_t> stop_ids;  // end-of-sequence ids of config, generation config and tokenizer
};

// tokenizer: a path that replaces the model's own; empty: the model's. Errors name the path and what is
// missing there. keep: the tokenizer's tables are taken from, and left in, the user's cache folder
// (tokenizer_cache.h).
LoadedModel load_model(const std::string& path, const std::string& tokenizer = {}, bool keep = true);

}  // namespace flagscale::engine
