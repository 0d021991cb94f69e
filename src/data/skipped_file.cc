#include "data/skipped_file.h"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace flagscale::data {

SkippedFile::SkippedFile(std::string path, uint64_t keep) : path_(std::move(path)) {
  if (keep > 0)
    file_ = std::make_unique<PartFile>(path_, keep);
  else
    std::remove(path_.c_str());
}

void SkippedFile::add(const std::string& file, int64_t line, const std::string& error) {
  if (!file_) file_ = std::make_unique<PartFile>(path_, 0);
  const nlohmann::ordered_json json = {{"file", file}, {"line", line}, {"error", error}};
  const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  file_->append(std::as_bytes(std::span(text)));
}

uint64_t SkippedFile::sync() {
  if (!file_) return 0;
  file_->sync();
  return file_->size();
}

}  // namespace flagscale::data
