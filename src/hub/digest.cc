#include "hub/digest.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "net/digest.h"

namespace flagscale::hub {

bool is_digest(const std::string& name) {
  return (name.size() == 64 || name.size() == 40) && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool matches_digest(const std::string& path, const std::string& digest) {
  if (digest.size() != 40) return net::digest_of_file(path, net::DigestKind::kSha256) == digest;
  std::error_code failed;  // which reading tells the reason of
  const uintmax_t size = std::filesystem::file_size(path, failed);
  const std::string header = "blob " + std::to_string(size) + '\0';
  return net::digest_of_file(path, net::DigestKind::kSha1, header) == digest;
}

}  // namespace flagscale::hub
