#pragma once
// What the hub says of a model: its commit and its files.

#include <cstdint>
#include <string>
#include <vector>

#include "hub/http.h"
#include "hub/settings.h"

namespace flagscale::hub {

struct RemoteFile {
  std::string name;  // relative, without ..
  uint64_t size = 0;
  std::string digest;  // SHA-256 or git's SHA-1
};

struct RemoteModel {
  std::string commit;
  std::vector<RemoteFile> files;  // those that loading needs
};

// Asks for the model's files and chooses those to load from: safetensors with configuration and tokenizer, or
// one .gguf. Errors as fetch_model().
RemoteModel describe_remote(Http& http, const ModelId& id, const Settings& settings);

std::string file_url(const ModelId& id, const std::string& commit, const std::string& name,
                     const Settings& settings);

}  // namespace flagscale::hub
