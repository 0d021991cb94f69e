#pragma once
// `flagscale data preprocess`, and the options that name a tokenizer.

namespace CLI {
class App;
}

namespace flagscale {

namespace data {
struct TokenizerChoice;
}

// Adds --tokenizer and its like; `choice` lives as long as the command.
void add_tokenizer_options(CLI::App& command, data::TokenizerChoice& choice);
void add_data_preprocess(CLI::App& data);

}  // namespace flagscale
