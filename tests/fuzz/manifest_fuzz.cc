// folders: io
// seeds: tests/golden/io/checkpoints/iter_0000007/manifest.json
#include <span>

#include "base/error.h"
#include "io/manifest.h"
#include "io/xxh64.h"

namespace {
using namespace flagscale::io;

void parse(const std::string& text) {
  try {
    const Manifest manifest = parse_manifest("manifest.json", text);
    to_json(manifest);
  } catch (const flagscale::Error&) {  // refused: what a damaged file deserves
  }
}
}  // namespace

// Parses the input as it is, and with its checksum made right, which is what lets a mutation through to the
// rest.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  parse(text);
  const size_t at = text.find("xxh64:");
  const std::string blank = checksum_text(0);
  if (at == text.npos || at + blank.size() > text.size()) return 0;
  text.replace(at, blank.size(), blank);
  text.replace(at, blank.size(), checksum_text(xxh64(std::as_bytes(std::span(text)))));
  parse(text);
  return 0;
}
