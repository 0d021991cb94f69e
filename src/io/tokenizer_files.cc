#include "io/tokenizer_files.h"

#include <filesystem>
#include <map>

#include "base/error.h"
#include "io/atomic_file.h"

namespace flagscale::io {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFolder = "tokenizer";
constexpr const char* kFiles[] = {
    "tokenizer.json",      "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "merges.txt",          "special_tokens.txt",    "added_tokens.json",       "tokenizer.model",
    "chat_template.jinja", "generation_config.json"};

std::map<std::string, std::string> texts_at(const fs::path& folder) {
  std::map<std::string, std::string> texts;
  std::error_code error;
  for (const char* name : kFiles)
    if (fs::is_regular_file(folder / name, error)) texts[name] = read_file((folder / name).string());
  return texts;
}

// A file is the tokenizer that was named, whatever lies beside it.
std::map<std::string, std::string> texts_of(const fs::path& from) {
  std::error_code error;
  if (!fs::is_regular_file(from, error)) return texts_at(from);
  return {{from.filename().string(), read_file(from.string())}};
}

// The tokenizer of a GGUF file cannot be copied alone.
bool can_be_kept(const std::string& from) { return !from.empty() && !from.ends_with(".gguf"); }

}  // namespace

std::vector<std::string> copy_tokenizer(const std::string& from, const std::string& folder) {
  std::error_code error;
  std::vector<std::string> copied;
  if (from.empty()) return copied;
  const fs::path source = fs::is_directory(from, error) ? fs::path(from) : fs::path(from).parent_path();
  for (const auto& [name, text] : texts_at(source)) {
    write_file(folder + "/" + name, text);
    copied.push_back(name);
  }
  return copied;
}

void check_tokenizer(const std::string& from, const std::string& dir) {
  const fs::path folder = fs::path(dir) / kFolder;
  std::error_code error;
  if (!can_be_kept(from) || !fs::is_directory(folder, error) || list_checkpoints(dir).empty()) return;
  for (const auto& [name, text] : texts_of(from))
    if (const fs::path kept = folder / name;
        !fs::is_regular_file(kept, error) || read_file(kept.string()) != text)
      fail(ErrorKind::kInvalidArgument,
           "{}: {} is not that of the checkpoints in {} (kept in {}): give the tokenizer they were trained "
           "with, or another folder to save in",
           from, name, dir, folder.string());
}

void keep_tokenizer(const std::string& from, const std::string& dir) {
  const fs::path folder = fs::path(dir) / kFolder;
  std::error_code error;
  if (!can_be_kept(from) || fs::equivalent(from, folder, error)) return;
  for (const auto& [name, text] : texts_of(from)) {
    fs::create_directories(folder);
    write_file((folder / name).string(), text);
  }
}

std::string tokenizer_of(const Checkpoint& checkpoint) {
  const auto& extra = checkpoint.state().extra;
  const auto recorded = extra.find("tokenizer");
  if (recorded == extra.end() || recorded->second.empty()) return "";
  const fs::path original(recorded->second), kept = fs::path(checkpoint.folder()).parent_path() / kFolder;
  std::error_code error;
  if (original.has_extension() && fs::is_regular_file(kept / original.filename(), error))
    return (kept / original.filename()).string();
  return !texts_at(kept).empty() ? kept.string() : original.string();
}

}  // namespace flagscale::io
