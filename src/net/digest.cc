#include "net/digest.h"

#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"

namespace flagscale::net {

std::string sha256_base64(std::string_view data) {
  std::array<unsigned char, 32> digest;
  FLAGSCALE_CHECK(EVP_Digest(data.data(), data.size(), digest.data(), nullptr, EVP_sha256(), nullptr) == 1);
  std::array<unsigned char, 45> text;  // with the end that EVP_EncodeBlock writes
  const int size = EVP_EncodeBlock(text.data(), digest.data(), digest.size());
  return {text.begin(), text.begin() + size};
}

std::string digest_of_file(const std::string& path, DigestKind kind, std::string_view before) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ErrorKind::kResource, "cannot read {}: {}", path, std::strerror(errno));
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  const EVP_MD* const algorithm = kind == DigestKind::kSha1 ? EVP_sha1() : EVP_sha256();
  FLAGSCALE_CHECK(EVP_DigestInit_ex(context.get(), algorithm, nullptr) == 1);
  EVP_DigestUpdate(context.get(), before.data(), before.size());
  std::vector<char> block(size_t{1} << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0) {
    throw_if_interrupted();
    EVP_DigestUpdate(context.get(), block.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) fail(ErrorKind::kResource, "cannot read {}: {}", path, std::strerror(errno));
  unsigned char sum[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), sum, &size);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) hex += fmt::format("{:02x}", sum[i]);
  return hex;
}

}  // namespace flagscale::net
