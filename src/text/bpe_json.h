#pragma once
// tokenizer.json and our byte-level BPE.

#include <optional>
#include <string>
#include <string_view>

#include "text/bpe_model.h"

namespace flagscale::text {

// nullopt: a tokenizer that our code does not cover to the last id; `why` says what. It is the crate's then.
// Errors: kCorrupt for what is not JSON, or lacks what every tokenizer.json has.
// `json` is not copied if it has room behind it, as read_text_file() leaves.
std::optional<BpeSpec> read_bpe_json(const std::string& json, const std::string& source, std::string& why);

// What `read_bpe_json` reads back, and Hugging Face's crate reads the same. Merges in order of rank.
std::string write_bpe_json(const BpeSpec& spec);

// The ids of `added` tokens that the model's vocabulary lacks follow it in order; so the crate counts,
// whatever the file says. False if the file says otherwise.
bool added_ids_in_order(const BpeSpec& spec);

}  // namespace flagscale::text
