#include "text/byte_alphabet.h"

#include "text/unicode.h"

namespace flagscale::text {
namespace {

constexpr bool prints(uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

constexpr uint32_t kCodes = 256 + 68;  // 68 bytes do not print: they take the code points from 256

constexpr std::array<uint32_t, 256> make_codes() {
  std::array<uint32_t, 256> table{};
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) table[byte] = prints(byte) ? byte : next++;
  return table;
}

constexpr std::array<int16_t, kCodes> make_bytes() {
  std::array<int16_t, kCodes> table{};
  table.fill(-1);
  const auto codes = make_codes();
  for (uint32_t byte = 0; byte < 256; ++byte) table[codes[byte]] = static_cast<int16_t>(byte);
  return table;
}

constexpr std::array<uint8_t, 256> make_order() {
  std::array<uint8_t, 256> order{};
  size_t count = 0;
  for (const int16_t byte : make_bytes())
    if (byte >= 0) order[count++] = static_cast<uint8_t>(byte);
  return order;
}

constexpr auto kCodeToByte = make_bytes();

}  // namespace

const std::array<uint32_t, 256> kByteToCode = make_codes();
const std::array<uint8_t, 256> kBytesInOrder = make_order();

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string result;
  for (const char byte : bytes) append_utf8(kByteToCode[static_cast<unsigned char>(byte)], result);
  return result;
}

std::optional<std::string> alphabet_to_bytes(std::string_view text) {
  std::string bytes;
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const Char c = decode_char(p);
    if (c.code >= kCodes || kCodeToByte[c.code] < 0) return std::nullopt;
    bytes += static_cast<char>(kCodeToByte[c.code]);
    p += c.size;
  }
  return bytes;
}

}  // namespace flagscale::text
