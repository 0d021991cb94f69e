#pragma once
// For the tests of this folder: golden data; an error's kind and text.

#include <fstream>
#include <string>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale::io {

#ifdef FLAGSCALE_SOURCE_DIR
inline std::string golden(const std::string& file) { return FLAGSCALE_SOURCE_DIR "/tests/golden/io/" + file; }
#endif

// Writes without flushing to disk: tests damage hundreds of files.
inline void put(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// "kind: message" of the Error that body() throws; "" when it throws none.
template <class Body>
std::string error_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return std::string(name(error.kind())) + ": " + error.what();
  }
  return "";
}

}  // namespace flagscale::io
