#pragma once
// A tokenizer's tables kept between runs (cache_entry.h): a vocabulary of 150,000 tokens is mapped, not read.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace flagscale::engine {

// What `make` gives, or what it gave when the same files were there. files: all that `make` may look at;
// none: nothing is kept.
std::unique_ptr<text::Tokenizer> cached_tokenizer(
    const std::vector<std::string>& files, const std::function<std::unique_ptr<text::Tokenizer>()>& make);

// load_tokenizer(), kept if `keep`.
std::unique_ptr<text::Tokenizer> load_cached_tokenizer(const std::string& path, bool keep);

}  // namespace flagscale::engine
