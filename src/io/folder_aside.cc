#include "io/folder_aside.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "io/xxh64.h"

namespace flagscale::io {

namespace fs = std::filesystem;

namespace {

// A folder that is both would be read as one of them.
void require_no_checkpoint(const std::string& folder) {
  if (is_checkpoint(folder))
    fail(ErrorKind::kInvalidArgument, "{} holds checkpoints: give the Hugging Face folder a place of its own",
         folder);
}

[[noreturn]] void refuse_file(const fs::path& file, const char* what) {
  fail(ErrorKind::kInvalidArgument,
       "{} is {}, and would be replaced: write to another folder, or add --overwrite", file.string(), what);
}

std::vector<fs::path> weight_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  return files;
}

void refuse_stranger(const fs::path& file, const std::string& made_from) {
  Metadata metadata;
  try {
    metadata = SafetensorsFile(file.string()).metadata();
  } catch (const Error&) {  // no model of ours
  }
  if (metadata[kWriterKey] != kWriter) refuse_file(file, "without a mark of this program");
  if (metadata[kSourceKey].empty()) refuse_file(file, "without a mark of what it was made from");
  if (metadata[kSourceKey] != made_from) refuse_file(file, "made from another run or model");
}

void refuse_folder(const fs::path& file) {
  std::error_code error;
  if (fs::is_directory(fs::symlink_status(file, error)))
    fail(ErrorKind::kInvalidArgument,
         "{} is a folder, and a file belongs there: move it away, or write to another folder", file.string());
}

fs::path folder_meant(const std::string& target) {
  const std::string folder = target.substr(0, target.find_last_not_of('/') + 1);
  if (folder.empty())
    fail(ErrorKind::kInvalidArgument,
         "the folder to write is given as '{}': name one for the model alone, as ./exported", target);
  return folder;
}

// The run that a checkpoint is of.
fs::path source_of(const std::string& path) {
  const fs::path source = is_checkpoint(path) ? fs::path(Checkpoint(path).folder()) : fs::path(path);
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(fs::absolute(source), error);
  if (error) fail(ErrorKind::kResource, "{}: {}", source.string(), error.message());
  return is_checkpoint(path) ? whole.parent_path() : whole;
}

// A conversion to another type writes the same model.
nlohmann::json model_in(const std::string& config) {
  auto json = nlohmann::json::parse(config, nullptr, false);
  if (json.is_object()) json.erase("torch_dtype"), json.erase("dtype");
  return json;
}

// PID of "<prefix>PID.tmp"; 0 for another name.
pid_t aside_owner(const std::string& name, const std::string& prefix) {
  if (!name.starts_with(prefix) || !name.ends_with(".tmp")) return 0;
  pid_t owner = 0;
  const char *begin = name.data() + prefix.size(), *end = name.data() + name.size() - 4;
  return begin < end && std::from_chars(begin, end, owner).ptr == end ? owner : 0;
}

}  // namespace

std::string source_mark(const std::string& path, const std::string& adapter) {
  std::string text = source_of(path);
  if (!adapter.empty()) text += '\0' + source_of(adapter).string();
  return checksum_text(xxh64(std::as_bytes(std::span(text))));
}

FolderAside::FolderAside(const std::string& target, Model model, Replace replace)
    : target_(folder_meant(target)), model_(std::move(model)), free_(replace == Replace::kAny) {
  require_no_checkpoint(target);
  for (const fs::path& file : weight_files(target_)) refuse_folder(file);
  for (const std::string& name : {model_.config_name, std::string("model.safetensors.index.json")})
    refuse_folder(target_ / name);
  if (!free_) check_weights();
  path_ = target_.string() + (fs::exists(target_) ? "/" : ".") + std::to_string(getpid()) + ".tmp";
  remove_leftovers();
  made_.emplace(fs::absolute(path_).parent_path());
  std::error_code error;
  fs::create_directory(path_, error);
  if (error) fail(ErrorKind::kResource, "{}: cannot make the folder: {}", target_.string(), error.message());
}

FolderAside::~FolderAside() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

// With weights of our own in it, what lies beside them is of our making too.
void FolderAside::check_weights() const {
  const std::vector<fs::path> weights = weight_files(target_);
  for (const fs::path& file : weights) refuse_stranger(file, model_.made_from);
  std::error_code error;
  for (const char* name : {"config.json", "adapter_config.json"}) {
    const fs::path there = target_ / name;
    if (!fs::exists(there, error)) continue;
    if (weights.empty()) refuse_file(there, "without a mark of this program");
    if (name != model_.config_name || model_in(read_file(there.string())) != model_in(model_.config))
      refuse_file(there, "another model's");
  }
}

void FolderAside::add(const std::map<std::string, std::string>& files) const {
  for (const auto& [name, text] : files) write_file(path_ + "/" + name, text);
}

Metadata FolderAside::metadata() const {
  return {{"format", "pt"}, {kWriterKey, kWriter}, {kSourceKey, model_.made_from}};
}

std::set<std::string> FolderAside::names() const {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(path_)) names.insert(entry.path().filename().string());
  return names;
}

void FolderAside::check() const {
  const bool any = free_ || !weight_files(target_).empty();
  std::error_code error;
  for (const std::string& name : names()) {
    const fs::path there = target_ / name;
    refuse_folder(there);
    if (!any && fs::exists(there, error) &&
        (!fs::is_regular_file(there, error) || read_file(there.string()) != read_file(path_ + "/" + name)))
      refuse_file(there, "without a mark of this program");
  }
}

void FolderAside::replace_files() const {
  const std::set<std::string> ours = names();
  std::error_code error;
  for (const std::string& name : ours)
    if (!error) fs::rename(path_ + "/" + name, target_ / name, error);
  if (error) fail(ErrorKind::kResource, "{}: cannot be put in place: {}", target_.string(), error.message());
  remove_stale_weights(target_.string(), ours);
  for (const char* name : {"config.json", "adapter_config.json", "adapter_model.safetensors"})
    if (!ours.contains(name)) fs::remove(target_ / name, error);
}

void FolderAside::commit() {
  add({{model_.config_name, model_.config}});
  std::error_code error;
  if (!fs::exists(target_)) {
    fs::rename(path_, target_, error);
    if (error)
      fail(ErrorKind::kResource, "{}: cannot be put in place: {}", target_.string(), error.message());
    return made_->keep();
  }
  check();
  replace_files();
  made_->keep();
}

// Of killed conversions, beside the target or in it. A running one is left alone.
void FolderAside::remove_leftovers() const {
  const fs::path parent = target_.has_parent_path() ? target_.parent_path() : fs::path(".");
  const std::string beside = target_.filename().string() + ".";
  for (const auto& [folder, prefix] : {std::pair(parent, beside), std::pair(target_, std::string())}) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const pid_t owner = aside_owner(entry.path().filename().string(), prefix);
      if (owner <= 0 || !entry.is_directory(error) || kill(owner, 0) == 0 || errno != ESRCH) continue;
      fs::remove_all(entry.path(), error);
    }
  }
}

}  // namespace flagscale::io
