#pragma once
// Where what a start makes is kept for the next one: (XDG_CACHE_HOME, else ~/.cache)/flagscale. No entry of
// it is ever needed.

#include <cstdint>
#include <filesystem>

namespace flagscale {

// Its folder of this name, which need not exist; empty where there is no home.
std::filesystem::path cache_folder(const char* name);

// Bytes that may be kept: FLAGSCALE_CACHE_BYTES (16 GiB; 0: nothing).
uint64_t cache_limit();

}  // namespace flagscale
