#include "hub/settings.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>

#include "base/error.h"

namespace flagscale::hub {

namespace fs = std::filesystem;

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string home() {
  std::string given = variable("HF_HOME");
  if (!given.empty()) return given;
  const std::string cache = variable("XDG_CACHE_HOME");
  return cache.empty() ? variable("HOME") + "/.cache/huggingface" : cache + "/huggingface";
}

std::string token() {
  std::string value = variable("HF_TOKEN");
  if (!value.empty()) return value;
  const std::string path = variable("HF_TOKEN_PATH");
  std::ifstream file(path.empty() ? home() + "/token" : path);
  file >> value;
  return value;
}

// A part of a name that is also a name of a file: letters, digits and _ - . but not .. or a leading . or -
const std::regex kId(
    R"(((?:[A-Za-z0-9_][\w.-]*)/(?:[A-Za-z0-9_][\w.-]*))(?:@([\w][\w./-]*))?(?::([\w][\w.-]*))?)");

}  // namespace

Settings settings() {
  Settings result;
  result.endpoint = variable("HF_ENDPOINT");
  if (result.endpoint.empty()) result.endpoint = "https://huggingface.co";
  while (result.endpoint.ends_with('/')) result.endpoint.pop_back();
  result.cache = variable("HF_HUB_CACHE");
  if (result.cache.empty()) result.cache = home() + "/hub";
  result.token = token();
  const std::string offline = variable("HF_HUB_OFFLINE");
  result.offline =
      offline == "1" || offline == "true" || offline == "TRUE" || offline == "ON" || offline == "YES";
  return result;
}

bool is_model_id(const std::string& text) {
  return text.size() <= 256 && text.find("..") == std::string::npos && std::regex_match(text, kId);
}

ModelId parse_model_id(const std::string& text) {
  std::smatch match;
  if (!is_model_id(text) || !std::regex_match(text, match, kId))
    fail(ErrorKind::kInvalidArgument, "'{}' is not a model of the hub: expected owner/name[@revision][:file]",
         text);
  return {match[1], match[2].length() ? match[2].str() : "main", match[3]};
}

}  // namespace flagscale::hub
