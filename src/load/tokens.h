#pragma once
// The tokens of the model under load: from a tokenizer at hand, or asked of the server.

#include <memory>
#include <string>
#include <vector>

#include "net/client.h"
#include "text/tokenizer.h"

namespace flagscale::load {

class Tokens {
 public:
  virtual ~Tokens() = default;
  virtual std::vector<int32_t> encode(const std::string& text) = 0;  // without special tokens
  virtual std::string decode(const std::vector<int32_t>& ids) = 0;
  virtual const std::vector<int32_t>& plain() = 0;  // ids that stand for text, none of them special
};

std::unique_ptr<Tokens> local_tokens(std::unique_ptr<text::Tokenizer> tokenizer);

// By /tokenize and /detokenize, as vLLM and flagscale answer them. Its plain ids are those of a text of
// common words. Throws Error when the server has no such routes.
std::unique_ptr<Tokens> server_tokens(net::Client client, const std::string& model,
                                      const net::Headers& headers);

}  // namespace flagscale::load
