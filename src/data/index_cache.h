#pragma once
// Keeps sample indices of large datasets between runs (data_cache_path): building is linear in documents and
// samples, which for thousands of millions of them takes minutes.
//
// An entry is named by a hash of all that decides it (file, its size and time, split, length, samples, seed)
// and is four files, as in Megatron's cache: HASH-GPTDataset-SPLIT-description.txt and
// {document,sample,shuffle}_index.npy. Hashes are ours: Megatron's also names its tokenizer object.

#include <functional>
#include <string>

#include "data/sample_index.h"

namespace flagscale::data {

// The entry of `description`, from the cache or from build(), which then fills it. A damaged entry is built
// again with a warning; a cache that cannot be written is a warning too. folder empty: no cache.
SampleIndex cached_sample_index(const std::string& folder, const std::string& split,
                                const std::string& description, const SampleIndexOptions& options,
                                const std::function<SampleIndex()>& build);

}  // namespace flagscale::data
