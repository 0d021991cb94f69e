#include "text/tokenizer_image.h"

#include "text/bpe_encoder.h"
#include "text/image.h"
#include "text/sentencepiece_encoder.h"

namespace flagscale::text {

std::string tokenizer_image(const Tokenizer& tokenizer) {
  ImageWriter image;
  image.text(tokenizer.encoder().kind());
  image.text(tokenizer.source());
  for (const int32_t id : {tokenizer.bos(), tokenizer.eos(), tokenizer.pad(), tokenizer.unk()})
    image.number(static_cast<uint64_t>(id));
  image.text(tokenizer.chat_template_source());
  return tokenizer.encoder().put(image) ? image.take() : std::string();
}

std::unique_ptr<Tokenizer> tokenizer_from_image(std::span<const std::byte> bytes,
                                                std::shared_ptr<const void> memory) {
  ImageReader image(bytes, std::move(memory));
  const std::string kind = image.text();
  TokenizerInfo info;
  info.source = image.text();
  for (int32_t* id : {&info.bos, &info.eos, &info.pad, &info.unk}) *id = static_cast<int32_t>(image.number());
  info.chat_template = image.text();
  std::unique_ptr<const Encoder> encoder;
  if (kind == "bpe") encoder = make_bpe_encoder(BpeModel(image));
  if (kind == "sentencepiece") encoder = make_sentencepiece(image);
  if (!encoder || !image.done()) return nullptr;
  return std::make_unique<Tokenizer>(std::move(encoder), std::move(info));
}

}  // namespace flagscale::text
