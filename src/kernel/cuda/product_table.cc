#include "kernel/cuda/product_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "base/cache_folder.h"
#include "base/error.h"
#include "base/log.h"
#include "base/whole_file.h"

namespace flagscale::cuda {

ProductTable::ProductTable(const std::string& gpu, size_t library_version) {
  if (cache_limit() == 0 || cache_folder("products").empty()) return;
  std::string name = fmt::format("{}-cublaslt-{}.txt", gpu, library_version);
  std::ranges::replace_if(name, [](char c) { return c == ' ' || c == '/'; }, '-');
  file_ = cache_folder("products") / name;
  read();
}

// "product: winner of choices"
void ProductTable::read() {
  std::ifstream in(file_);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    Entry entry{};
    if (std::sscanf(line.c_str() + colon, ": %d of %d", &entry.winner, &entry.choices) == 2 &&
        entry.winner >= 0 && entry.winner < entry.choices)
      entries_[line.substr(0, colon)] = entry;
  }
}

int ProductTable::winner(const std::string& product, int choices) const {
  const auto at = entries_.find(product);
  return at != entries_.end() && at->second.choices == choices ? at->second.winner : -1;
}

void ProductTable::keep(const std::string& product, int winner, int choices) {
  if (file_.empty()) return;
  read();  // what others have kept meanwhile
  entries_[product] = {winner, choices};
  std::string text;
  for (const auto& [key, entry] : entries_)
    text += fmt::format("{}: {} of {}\n", key, entry.winner, entry.choices);
  try {
    write_whole_file(file_, text);
  } catch (const Error& e) {
    warn("the fastest products are not kept for the next start: {}", e.what());
    file_.clear();
  }
}

}  // namespace flagscale::cuda
