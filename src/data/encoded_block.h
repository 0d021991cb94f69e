#pragma once
// A block of documents as token ids: what a worker makes of it.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/documents.h"
#include "data/preprocess.h"

namespace flagscale::data {

struct Encoded {
  struct Key {
    std::vector<int32_t> tokens;
    std::vector<int32_t> lengths;    // of sequences
    std::vector<int32_t> sequences;  // of documents
  };
  struct Broken {
    int64_t line;
    std::string why;
  };
  struct Note {
    int64_t count = 0;
    int64_t line = 0;  // of the first
  };
  InputPosition begin, end;
  std::vector<Key> keys;
  std::vector<Broken> broken;
  std::map<std::string, Note> notes;  // EncodedConversation's
  int64_t documents = 0;
};

// Encodes every document. A broken one, or one that the encoder refuses, goes to `broken` and is not in the
// keys; unless options.skip_broken the block ends with it.
Encoded encode_block(const PreprocessOptions& options, DocumentParser& parser, const Encoder& encode,
                     const Block& block);

}  // namespace flagscale::data
