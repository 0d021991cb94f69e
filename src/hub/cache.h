#pragma once
// The hub's cache on disk, in huggingface_hub's own layout, so that both find what the other fetched:
//
//   models--owner--name/refs/main                     the commit that the branch stood at
//   models--owner--name/blobs/<sha256 or git sha1>    each file once; <...>.incomplete while it comes
//   models--owner--name/snapshots/<commit>/<file>     links to blobs

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "hub/settings.h"

namespace flagscale::hub {

struct CachedModel {
  std::string repo;                    // "owner/name"
  std::filesystem::path folder;        // models--owner--name
  uint64_t bytes = 0;                  // of its blobs
  std::vector<std::string> revisions;  // "main (8d2f…)", commits
  bool complete = false;               // some snapshot can be loaded; else a download was cut off
};

std::filesystem::path repo_folder(const std::string& cache, const std::string& repo);

// Every model in the cache, by name.
std::vector<CachedModel> list_models(const std::string& cache);

// Removes a model with all its revisions; returns the bytes freed. Throws Error{kNotFound} naming those that
// are there.
uint64_t remove_model(const std::string& cache, const std::string& repo);

// The model of a snapshot that is wholly there: its folder, or the .gguf file in it that `id.file` names.
// None: it must be fetched.
std::optional<std::string> find_model(const std::string& cache, const ModelId& id);

// A folder that loads: config.json and every shard of its index, or a .gguf file.
bool is_complete(const std::filesystem::path& snapshot);

// The .gguf file of `names` that `wanted` is part of, upper and lower case alike; "" when there is none or
// more than one.
std::string choose_gguf(const std::vector<std::string>& names, const std::string& wanted);

}  // namespace flagscale::hub
