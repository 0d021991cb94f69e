#pragma once
// Where models come from and where they are kept: the environment variables of Hugging Face's
// huggingface_hub, meaning the same as there.

#include <string>

namespace flagscale::hub {

struct Settings {
  std::string endpoint;  // HF_ENDPOINT, else https://huggingface.co; no slash at its end
  std::string cache;     // HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub
  std::string token;     // HF_TOKEN, else the file HF_TOKEN_PATH or $HF_HOME/token; empty: none
  bool offline = false;  // HF_HUB_OFFLINE: no network at all
};

Settings settings();

// owner/name[@revision][:file], as a user writes a model of the hub.
struct ModelId {
  std::string repo;      // "owner/name"
  std::string revision;  // a branch, a tag or a commit; "main" unless given
  std::string file;      // of several .gguf files, the one whose name contains this; may be empty
};

// True for text that has the form of a ModelId.
bool is_model_id(const std::string& text);
// Throws Error{kInvalidArgument} for any other text.
ModelId parse_model_id(const std::string& text);

}  // namespace flagscale::hub
