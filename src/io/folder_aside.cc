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
#include "io/safetensors_writer.h"

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

bool is_own(const fs::path& file) {
  try {
    const auto metadata = SafetensorsFile(file.string()).metadata();
    const auto writer = metadata.find(kWriterKey);
    return writer != metadata.end() && writer->second == kWriter;
  } catch (const Error&) {
    return false;
  }
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

FolderAside::FolderAside(const std::string& target, std::string config_name, std::string config,
                         Replace replace)
    : target_(target.substr(0, target.find_last_not_of('/') + 1)),
      config_name_(std::move(config_name)),
      config_(std::move(config)),
      free_(replace == Replace::kAny) {
  require_no_checkpoint(target);
  if (!free_) check_weights(config_name_, config_);
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
void FolderAside::check_weights(const std::string& config_name, const std::string& config) const {
  const std::vector<fs::path> weights = weight_files(target_);
  for (const fs::path& file : weights)
    if (!is_own(file)) refuse_file(file, "without a mark of this program");
  std::error_code error;
  for (const char* name : {"config.json", "adapter_config.json"}) {
    const fs::path there = target_ / name;
    if (!fs::exists(there, error)) continue;
    if (weights.empty()) refuse_file(there, "without a mark of this program");
    if (name != config_name || model_in(read_file(there.string())) != model_in(config))
      refuse_file(there, "another model's");
  }
}

void FolderAside::add(const std::map<std::string, std::string>& files) const {
  for (const auto& [name, text] : files) write_file(path_ + "/" + name, text);
}

void FolderAside::refuse_strangers(const std::set<std::string>& names) const {
  std::error_code error;
  for (const std::string& name : names)
    if (const fs::path there = target_ / name;
        fs::exists(there, error) &&
        (!fs::is_regular_file(there, error) || read_file(there.string()) != read_file(path_ + "/" + name)))
      refuse_file(there, "without a mark of this program");
}

void FolderAside::replace_files(const std::set<std::string>& names) const {
  std::error_code error;
  for (const std::string& name : names)
    if (!error) fs::rename(path_ + "/" + name, target_ / name, error);
  if (error) fail(ErrorKind::kResource, "{}: cannot be put in place: {}", target_.string(), error.message());
  remove_stale_weights(target_.string(), names);
}

void FolderAside::commit() {
  add({{config_name_, config_}});
  std::error_code error;
  if (!fs::exists(target_)) {
    fs::rename(path_, target_, error);
    if (error)
      fail(ErrorKind::kResource, "{}: cannot be put in place: {}", target_.string(), error.message());
    return made_->keep();
  }
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(path_)) names.insert(entry.path().filename().string());
  if (!free_ && weight_files(target_).empty()) refuse_strangers(names);
  replace_files(names);
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
