#include "model/config_at.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/atomic_file.h"
#include "io/gguf_weights.h"
#include "model/peft.h"

namespace flagscale::model {

namespace fs = std::filesystem;

namespace {

DecoderConfig parsed(const std::string& json, const std::string& where) {
  try {
    return parse_config(json);
  } catch (const Error&) {
    rethrow_with(where);
  }
}

// What holds only what is added to a model. adapter_config: PEFT's.
[[noreturn]] void refuse_adapter(const std::string& path, const std::string& adapter_config) {
  const auto json = nlohmann::json::parse(adapter_config, nullptr, false);
  std::string base;
  if (json.is_object() && json.contains("base_model_name_or_path") &&
      json["base_model_name_or_path"].is_string())
    base = json["base_model_name_or_path"];
  fail(
      ErrorKind::kInvalidArgument,
      "{} holds a LoRA adapter and no model: give its base{} as the model, and the adapter with --lora (in a "
      "training as pretrained_adapter), or merge the two first (flagscale checkpoint merge)",
      path, base.empty() ? "" : fmt::format(" ({})", base));
}

}  // namespace

ModelKind kind_of(const std::string& path) {
  if (!fs::exists(path)) fail(ErrorKind::kNotFound, "{} does not exist", path);
  if (fs::is_regular_file(path)) {
    if (!io::is_gguf(path) && !path.ends_with(".gguf"))
      fail(ErrorKind::kCorrupt,
           "{} is no GGUF file: a model is a Hugging Face folder, a .gguf file or one of our checkpoints",
           path);
    return ModelKind::kGguf;
  }
  if (io::is_checkpoint(path)) {
    const io::Checkpoint checkpoint(path);
    if (holds_adapter(checkpoint)) refuse_adapter(path, checkpoint.state().extra.at(kPeftConfigKey));
    return ModelKind::kCheckpoint;
  }
  if (fs::exists(fs::path(path) / "config.json")) return ModelKind::kFolder;
  if (const fs::path peft = fs::path(path) / "adapter_config.json"; fs::exists(peft))
    refuse_adapter(path, io::read_text(peft.string()));
  fail(ErrorKind::kNotFound,
       "{} is neither a Hugging Face folder (no config.json) nor a checkpoint (no "
       "latest_checkpointed_iteration.txt)",
       path);
}

DecoderConfig config_at(const std::string& path) {
  switch (kind_of(path)) {
    case ModelKind::kGguf:
      return config_of(io::GgufFile(path), path);
    case ModelKind::kCheckpoint:
      return config_of(io::Checkpoint(path));
    case ModelKind::kFolder:
      break;
  }
  return config_of_folder(path);
}

DecoderConfig config_of(const io::GgufFile& file, const std::string& path) {
  return parsed(io::gguf_config_json(file, DType::kF32), path);
}

DecoderConfig config_of(const io::Checkpoint& checkpoint) {
  const auto& extra = checkpoint.state().extra;
  const auto config = extra.find("config.json");
  if (config == extra.end())
    fail(ErrorKind::kCorrupt, "{} carries no model configuration", checkpoint.folder());
  return parsed(config->second, checkpoint.folder());
}

DecoderConfig config_of_folder(const std::string& folder) {
  return parsed(io::read_text((fs::path(folder) / "config.json").string()), folder);
}

}  // namespace flagscale::model
