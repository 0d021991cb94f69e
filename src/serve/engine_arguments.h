#pragma once
// Engine arguments that are structures, as config/schema.h reads them.

#include <string>
#include <vector>

#include "config/node.h"
#include "engine/speculate.h"

namespace flagscale::serve {

// speculative_config: {"method": "ngram", "num_speculative_tokens", "prompt_lookup_max",
// "prompt_lookup_min"}, a mapping or its JSON as a string.
struct SpeculativeConfig {
  engine::Speculation value;
};

// lora_modules: "NAME=FOLDER", {"name", "path"}, or a list of these.
struct LoraModule {
  std::string name, path;
};
struct LoraModules {
  std::vector<LoraModule> list;
};

// Throw Error{kConfig} saying what was expected.
void read_value(const config::Node& node, SpeculativeConfig& value);
void read_value(const config::Node& node, LoraModules& value);
LoraModule parse_lora_module(const std::string& text);  // "NAME=FOLDER"

inline const char* type_name(const SpeculativeConfig&) { return "mapping"; }
inline const char* type_name(const LoraModules&) { return "list of NAME=FOLDER"; }
inline std::string value_text(const SpeculativeConfig&) { return {}; }
inline std::string value_text(const LoraModules&) { return {}; }

}  // namespace flagscale::serve
