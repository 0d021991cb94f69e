#include "net/digest.h"

#include <openssl/evp.h>

#include <array>

#include "base/check.h"

namespace flagscale::net {

std::string sha256_base64(std::string_view data) {
  std::array<unsigned char, 32> digest;
  FLAGSCALE_CHECK(EVP_Digest(data.data(), data.size(), digest.data(), nullptr, EVP_sha256(), nullptr) == 1);
  std::array<unsigned char, 45> text;  // with the end that EVP_EncodeBlock writes
  const int size = EVP_EncodeBlock(text.data(), digest.data(), digest.size());
  return {text.begin(), text.begin() + size};
}

}  // namespace flagscale::net
