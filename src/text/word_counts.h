#pragma once
// How often each word stands in a text: what a BPE trainer sees of it.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "text/pre_tokenizer.h"

namespace flagscale::text {

struct WordCount {
  std::string word;
  int64_t count;
};

// In byte order of the words, so that the result does not depend on the threads. `next` hands out texts
// (UTF-8, else Error{kInvalidArgument}); `read` hears how many bytes were read so far. threads = 0: all
// cores.
std::vector<WordCount> count_words(PreTokenizer pre, const std::function<bool(std::string&)>& next,
                                   int threads, const std::function<void(int64_t)>& read);

}  // namespace flagscale::text
