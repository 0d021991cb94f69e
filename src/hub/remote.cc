#include "hub/remote.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hub/cache.h"
#include "hub/digest.h"

namespace flagscale::hub {

namespace {

// What a path may hold in a URL; the rest is percent-encoded.
std::string encoded(const std::string& text, const char* also) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || std::string_view("-_.~").find(c) != std::string_view::npos ||
        std::string_view(also).find(c) != std::string_view::npos)
      result += c;
    else
      result += fmt::format("%{:02X}", byte);
  }
  return result;
}

[[noreturn]] void refused(const Response& response, const ModelId& id, const Settings& settings) {
  const auto json = nlohmann::json::parse(response.body, nullptr, false);
  std::string said = json.is_object() && json.contains("error") && json["error"].is_string()
                         ? ": " + json["error"].get<std::string>()
                         : "";
  const std::string model = id.repo + (id.revision == "main" ? "" : "@" + id.revision);
  if (response.status == 401 || response.status == 403)
    fail(ErrorKind::kNotFound,
         "{} does not give {} ({}{}); if the name is right it is private or gated: ask for access there and "
         "set HF_TOKEN{}",
         settings.endpoint, model, response.status, said,
         settings.token.empty() ? "" : " to a token that has it");
  if (response.status == 404)
    fail(ErrorKind::kNotFound, "{} has no {} (404{})", settings.endpoint, model, said);
  fail(ErrorKind::kResource, "{} answers {} for {}{}", settings.endpoint, response.status, model, said);
}

bool has_extension(const std::string& name, std::initializer_list<const char*> extensions) {
  return std::any_of(extensions.begin(), extensions.end(), [&](const char* e) { return name.ends_with(e); });
}

bool is_safe(const std::string& name) {
  return !name.empty() && name.front() != '/' && name.front() != '.' &&
         name.find("..") == std::string::npos && name.find('\\') == std::string::npos;
}

// Beside weights, what configures a model and its tokenizer; only files at the top.
bool is_companion(const std::string& name) {
  return has_extension(name, {".json", ".model", ".txt", ".jinja", ".tiktoken"});
}

std::vector<std::string> wanted_files(const std::vector<std::string>& names, const ModelId& id,
                                      const std::string& endpoint) {
  std::vector<std::string> gguf, weights, result;
  for (const std::string& name : names) {
    if (name.ends_with(".gguf")) gguf.push_back(name);
    if (name.starts_with("model") && name.ends_with(".safetensors")) weights.push_back(name);
  }
  if (!id.file.empty() || weights.empty()) {
    if (gguf.empty())
      fail(ErrorKind::kUnsupported, "{} at {} has no {}", id.repo, endpoint,
           id.file.empty() ? "safetensors and no .gguf file; those are what is read here" : ".gguf file");
    const std::string chosen = choose_gguf(gguf, id.file);
    if (chosen.empty())
      fail(ErrorKind::kInvalidArgument, "{} has these .gguf files, name one as {}:PART_OF_ITS_NAME: {}",
           id.repo, id.repo, fmt::join(gguf, ", "));
    return {chosen};
  }
  result = weights;
  for (const std::string& name : names)
    if (is_companion(name)) result.push_back(name);
  return result;
}

uint64_t number_at(const nlohmann::json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_number_unsigned() ? it->get<uint64_t>() : 0;
}

std::string text_at(const nlohmann::json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

// Mirrors that do not list checksums give them in the headers of each file.
void ask_for_digest(Http& http, RemoteFile& file, const std::string& url) {
  const Response response = http.head(url);
  const auto header = [&](const char* name) {
    const auto it = response.headers.find(name);
    return it == response.headers.end() ? std::string() : it->second;
  };
  file.digest = header("x-linked-etag").empty() ? header("etag") : header("x-linked-etag");
  std::erase(file.digest, '"');
  if (file.digest.starts_with("W/")) file.digest.erase(0, 2);
  const std::string size =
      header("x-linked-size").empty() ? header("content-length") : header("x-linked-size");
  file.size = size.empty() ? 0 : std::strtoull(size.c_str(), nullptr, 10);
}

}  // namespace

std::string file_url(const ModelId& id, const std::string& commit, const std::string& name,
                     const Settings& settings) {
  return settings.endpoint + "/" + encoded(id.repo, "/") + "/resolve/" + encoded(commit, "") + "/" +
         encoded(name, "/");
}

RemoteModel describe_remote(Http& http, const ModelId& id, const Settings& settings) {
  const std::string url = settings.endpoint + "/api/models/" + encoded(id.repo, "/") + "/revision/" +
                          encoded(id.revision, "") + "?blobs=true";
  const Response response = http.get(url);
  if (response.status != 200) refused(response, id, settings);
  const auto json = nlohmann::json::parse(response.body, nullptr, false);
  RemoteModel model;
  if (json.is_object()) model.commit = text_at(json, "sha");
  if (!is_digest(model.commit) || !json.contains("siblings") || !json["siblings"].is_array())
    fail(ErrorKind::kCorrupt, "{} answers something else than a description of {}", url, id.repo);
  std::vector<std::string> names;
  for (const auto& sibling : json["siblings"])
    if (sibling.is_object() && is_safe(text_at(sibling, "rfilename")) &&
        text_at(sibling, "rfilename").find('/') == std::string::npos)
      names.push_back(text_at(sibling, "rfilename"));
  const std::vector<std::string> wanted = wanted_files(names, id, settings.endpoint);
  for (const auto& sibling : json["siblings"]) {
    if (!sibling.is_object()) continue;
    RemoteFile file{text_at(sibling, "rfilename"), number_at(sibling, "size"), text_at(sibling, "blobId")};
    if (std::find(wanted.begin(), wanted.end(), file.name) == wanted.end()) continue;
    if (sibling.contains("lfs") && sibling["lfs"].is_object()) {
      file.digest = text_at(sibling["lfs"], "sha256");
      file.size = number_at(sibling["lfs"], "size");
    }
    if (file.digest.empty()) ask_for_digest(http, file, file_url(id, model.commit, file.name, settings));
    if (!is_digest(file.digest))
      fail(ErrorKind::kCorrupt, "{} names no checksum of {}", settings.endpoint, file.name);
    model.files.push_back(std::move(file));
  }
  return model;
}

}  // namespace flagscale::hub
