#include "data/preprocess_job.h"

#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "base/error.h"
#include "data/parquet_rows.h"

namespace flagscale::data {

std::string describe_job(const PreprocessOptions& options) {
  nlohmann::json files = nlohmann::json::array();
  for (const auto& path : options.inputs) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0)
      fail(ErrorKind::kNotFound, "cannot read {}: {}", path, std::strerror(errno));
    files.push_back({path, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec});
  }
  const nlohmann::json job = {
      {"files", files},
      {"format", static_cast<int>(options.format)},
      {"keys", options.keys},
      {"tokenizer", options.tokenizer_id},
      {"conversations", options.conversations ? static_cast<int>(options.conversation_format) : -1},
      {"vocab_size", options.vocab_size},
      {"eod", options.append_eod ? options.eod : -1},
  };
  return job.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void check_options(const PreprocessOptions& options) {
  if (options.inputs.empty()) fail(ErrorKind::kInvalidArgument, "no input files");
  if (options.keys.empty()) fail(ErrorKind::kInvalidArgument, "no JSON keys to take");
  if (std::set<std::string>(options.keys.begin(), options.keys.end()).size() != options.keys.size())
    fail(ErrorKind::kInvalidArgument, "a JSON key is given twice");
  if (options.format != InputFormat::kJsonLines && !options.conversations && options.keys.size() != 1)
    fail(ErrorKind::kInvalidArgument, "plain text has no JSON keys to choose from");
  if (options.append_eod && (options.eod < 0 || options.eod >= options.vocab_size))
    fail(ErrorKind::kInvalidArgument, "the tokenizer has no end-of-document token to append");
  const std::filesystem::path folder = std::filesystem::path(options.output_prefix).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder))
    fail(ErrorKind::kNotFound, "the folder {} of the output prefix {} does not exist: make it first",
         folder.string(), options.output_prefix);
  FLAGSCALE_CHECK((options.make_encoder != nullptr || options.conversations) && options.vocab_size > 0);
}

void check_columns(const PreprocessOptions& options) {
  if (options.conversations || options.format != InputFormat::kJsonLines) return;
  for (const std::string& path : options.inputs) {
    if (!is_parquet(path)) continue;
    const std::vector<std::string> columns = parquet_columns(path);
    for (const std::string& key : options.keys)
      if (std::find(columns.begin(), columns.end(), key) == columns.end())
        fail(ErrorKind::kInvalidArgument,
             "{}: has no column \"{}\"; there are: {}. --json-keys names the text's", path, key,
             fmt::join(columns, ", "));
  }
}

std::vector<std::string> columns_to_read(const PreprocessOptions& options) {
  return options.conversations ? conversation_keys() : options.keys;
}

}  // namespace flagscale::data
