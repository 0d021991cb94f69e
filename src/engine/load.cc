#include "engine/load.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "engine/tokenizer_cache.h"
#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/gguf_weights.h"
#include "io/tokenizer_files.h"
#include "model/config_at.h"
#include "text/gguf_vocab.h"

namespace flagscale::engine {

namespace fs = std::filesystem;

namespace {

void add_stop(LoadedModel& model, int64_t id) {
  if (id >= 0 && std::find(model.stop_ids.begin(), model.stop_ids.end(), id) == model.stop_ids.end())
    model.stop_ids.push_back(static_cast<int32_t>(id));
}

// eos_token_id of generation_config.json: a number or a list.
void add_generation_stops(LoadedModel& model, const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("eos_token_id")) return;
  const auto& eos = json["eos_token_id"];
  if (eos.is_number_integer()) add_stop(model, eos.get<int64_t>());
  if (eos.is_array())
    for (const auto& id : eos)
      if (id.is_number_integer()) add_stop(model, id.get<int64_t>());
}

std::unique_ptr<text::Tokenizer> tokenizer_in(const io::GgufFile& file, const std::string& path, bool keep) {
  return cached_tokenizer(keep ? std::vector{path} : std::vector<std::string>{}, [&] {
    return text::tokenizer_from_gguf(io::gguf_tokenizer(file).as<text::GgufVocab>(), path);
  });
}

void load_gguf(LoadedModel& model, bool keep) {
  const io::GgufFile file(model.path);
  model.config = model::config_of(file, model.path);
  if (!file.strings("tokenizer.ggml.tokens")) return;
  add_generation_stops(model, io::gguf_generation_config_json(file));
  model.tokenizer = tokenizer_in(file, model.path, keep);
}

void load_checkpoint(LoadedModel& model, bool keep) {
  const io::Checkpoint checkpoint(model.path);
  model.config = model::config_of(checkpoint);
  const std::string tokenizer = io::tokenizer_of(checkpoint);
  if (tokenizer.empty()) return;
  if (fs::exists(tokenizer))
    model.tokenizer = load_cached_tokenizer(tokenizer, keep);
  else
    warn("{} was trained with the tokenizer {}, which is not there", checkpoint.folder(), tokenizer);
}

bool has_tokenizer(const fs::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json"})
    if (fs::exists(folder / name)) return true;
  return false;
}

void load_folder(LoadedModel& model, bool keep) {
  const fs::path folder(model.path);
  model.config = model::config_of_folder(model.path);
  if (fs::exists(folder / "generation_config.json"))
    add_generation_stops(model, io::read_text((folder / "generation_config.json").string()));
  if (has_tokenizer(folder)) model.tokenizer = load_cached_tokenizer(model.path, keep);
}

}  // namespace

LoadedModel load_model(const std::string& path, const std::string& tokenizer, bool keep) {
  LoadedModel model;
  model.path = path;
  const model::ModelKind kind = model::kind_of(path);
  if (kind == model::ModelKind::kGguf)
    load_gguf(model, keep);
  else if (kind == model::ModelKind::kCheckpoint)
    load_checkpoint(model, keep);
  else
    load_folder(model, keep);
  if (!tokenizer.empty())
    model.tokenizer = tokenizer.ends_with(".gguf") ? tokenizer_in(io::GgufFile(tokenizer), tokenizer, keep)
                                                   : load_cached_tokenizer(tokenizer, keep);
  for (const int id : model.config.eos_ids) add_stop(model, id);
  if (model.tokenizer) add_stop(model, model.tokenizer->eos());
  model.weights = io::open_weights(path);
  return model;
}

}  // namespace flagscale::engine
