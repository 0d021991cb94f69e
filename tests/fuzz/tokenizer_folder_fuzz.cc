// folders: text
// seeds: tests/fuzz/seeds/tokenizer_folder
#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "use_tokenizer.h"

// The input's parts, between lines "====", as the files of a folder without tokenizer.json: Aquila's and
// GPT-2's pair, and what stands around it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flagscale;
  static const TemporaryFolder folder;
  constexpr std::string_view kLine = "====\n";
  std::string_view left(reinterpret_cast<const char*>(data), size);
  for (const char* name : {"vocab.json", "merges.txt", "special_tokens.txt", "tokenizer_config.json",
                           "special_tokens_map.json", "chat_template.jinja"}) {
    const size_t end = std::min(left.find(kLine), left.size());
    folder.put(name, std::string(left.substr(0, end)));
    left.remove_prefix(std::min(end + kLine.size(), left.size()));
  }
  try {
    use_tokenizer(*text::load_tokenizer(folder.path));
  } catch (const Error&) {  // refused: what damaged files deserve
  }
  return 0;
}
