#include "hub/cache.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flagscale::hub {

namespace fs = std::filesystem;

namespace {

constexpr const char* kPrefix = "models--";

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string first_word(const fs::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

std::string repo_of(const std::string& folder) {
  std::string repo = folder.substr(std::string(kPrefix).size());
  const size_t at = repo.find("--");
  return at == std::string::npos ? repo : repo.replace(at, 2, "/");
}

std::vector<std::string> gguf_files(const fs::path& snapshot) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(snapshot, error))
    if (entry.path().extension() == ".gguf" && fs::exists(entry.path()))
      names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> revisions(const fs::path& folder) {
  std::vector<std::string> result, named;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "refs", error)) {
    if (!entry.is_regular_file()) continue;
    named.push_back(first_word(entry.path()));
    result.push_back(entry.path().lexically_relative(folder / "refs").string() + " (" +
                     named.back().substr(0, 8) + ")");
  }
  for (const auto& entry : fs::directory_iterator(folder / "snapshots", error)) {
    const std::string commit = entry.path().filename();
    if (std::find(named.begin(), named.end(), commit) == named.end()) result.push_back(commit.substr(0, 8));
  }
  std::sort(result.begin(), result.end());
  return result;
}

CachedModel describe(const fs::path& folder) {
  CachedModel model;
  model.repo = repo_of(folder.filename());
  model.folder = folder;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "blobs", error))
    if (entry.is_regular_file()) model.bytes += entry.file_size(error);
  for (const auto& entry : fs::directory_iterator(folder / "snapshots", error))
    model.complete |= is_complete(entry.path());
  model.revisions = revisions(folder);
  return model;
}

}  // namespace

fs::path repo_folder(const std::string& cache, const std::string& repo) {
  std::string name = kPrefix + repo;
  name.replace(name.find('/'), 1, "--");
  return fs::path(cache) / name;
}

std::vector<CachedModel> list_models(const std::string& cache) {
  std::vector<CachedModel> models;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(cache, error))
    if (const std::string name = entry.path().filename();
        entry.is_directory() && name.starts_with(kPrefix) && name != kPrefix)
      models.push_back(describe(entry.path()));
  std::sort(models.begin(), models.end(), [](const auto& a, const auto& b) { return a.repo < b.repo; });
  return models;
}

uint64_t remove_model(const std::string& cache, const std::string& repo) {
  std::string known;
  for (const CachedModel& model : list_models(cache)) {
    known += (known.empty() ? "" : ", ") + model.repo;
    if (model.repo != repo) continue;
    fs::remove_all(model.folder);
    fs::remove_all(fs::path(cache) / ".locks" / model.folder.filename());
    return model.bytes;
  }
  fail(ErrorKind::kNotFound, "{} is not in {}: there {}", repo, cache,
       known.empty() ? "is nothing" : "are " + known);
}

bool is_complete(const fs::path& snapshot) {
  if (!gguf_files(snapshot).empty()) return true;
  if (!fs::exists(snapshot / "config.json")) return false;
  if (fs::exists(snapshot / "model.safetensors")) return true;
  std::ifstream file(snapshot / "model.safetensors.index.json");
  const auto index = nlohmann::json::parse(file, nullptr, false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) return false;
  return std::all_of(index["weight_map"].begin(), index["weight_map"].end(), [&](const auto& shard) {
    return shard.is_string() && fs::exists(snapshot / shard.template get<std::string>());
  });
}

std::string choose_gguf(const std::vector<std::string>& names, const std::string& wanted) {
  std::string found;
  for (const std::string& name : names) {
    if (!name.ends_with(".gguf") || lower(name).find(lower(wanted)) == std::string::npos) continue;
    if (!found.empty()) return {};
    found = name;
  }
  return found;
}

std::optional<std::string> find_model(const std::string& cache, const ModelId& id) {
  const fs::path folder = repo_folder(cache, id.repo);
  const std::string commit = first_word(folder / "refs" / id.revision);
  const fs::path snapshot = folder / "snapshots" / (commit.empty() ? id.revision : commit);
  if (!is_complete(snapshot)) return {};
  const std::vector<std::string> files = gguf_files(snapshot);
  if (id.file.empty() && (files.empty() || fs::exists(snapshot / "config.json"))) return snapshot.string();
  const std::string file = choose_gguf(files, id.file);
  if (file.empty()) return {};
  return (snapshot / file).string();
}

}  // namespace flagscale::hub
