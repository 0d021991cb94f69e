#pragma once
// Which algorithm was the fastest for a product, kept between runs: a text file for each GPU's name and
// cuBLASLt's version in the cache folder (base/cache_folder.h), a line for each product. Lines that cannot be
// read are passed over; a file that cannot be written is one warning.

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>

namespace flagscale::cuda {

class ProductTable {
 public:
  ProductTable(const std::string& gpu, size_t library_version);

  // Which of so many choices won; -1 where that is not known.
  int winner(const std::string& product, int choices) const;
  // Other processes' lines stay. product: without ':' and line breaks.
  void keep(const std::string& product, int winner, int choices);

 private:
  struct Entry {
    int winner, choices;
  };
  void read();
  std::filesystem::path file_;  // empty: nothing is kept
  std::map<std::string, Entry> entries_;
};

}  // namespace flagscale::cuda
