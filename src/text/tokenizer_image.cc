#include "text/tokenizer_image.h"

#include "text/bpe_encoder.h"
#include "text/image.h"

namespace flagscale::text {

namespace {

uint64_t bits(std::initializer_list<bool> flags) {
  uint64_t value = 0, bit = 1;
  for (const bool flag : flags) value |= flag ? bit : 0, bit <<= 1;
  return value;
}

void put_spec(ImageWriter& image, const BpeSpec& spec) {
  image.number(static_cast<uint64_t>(spec.pre));
  image.number(bits({spec.prefix_space, spec.nfc, spec.ignore_merges}));
  image.array(std::span(spec.before));
  image.array(std::span(spec.after));
  image.number(spec.added.size());
  for (const AddedToken& token : spec.added) {
    image.number(static_cast<uint64_t>(token.id));
    image.number(bits({token.special, token.normalized, token.lstrip, token.rstrip}));
    image.text(token.content);
  }
}

BpeSpec take_spec(ImageReader& image) {
  BpeSpec spec;
  spec.pre = static_cast<PreTokenizer>(image.number());
  const uint64_t flags = image.number();
  spec.prefix_space = flags & 1, spec.nfc = flags & 2, spec.ignore_merges = flags & 4;
  for (std::vector<int32_t>* ids : {&spec.before, &spec.after}) {
    const auto stored = image.array<int32_t>();
    ids->assign(stored.begin(), stored.end());
  }
  for (uint64_t left = image.number(); left > 0 && image.good(); --left) {
    const auto id = static_cast<int32_t>(image.number());
    const uint64_t is = image.number();
    spec.added.push_back({id, image.text(), (is & 1) != 0, (is & 2) != 0, (is & 4) != 0, (is & 8) != 0});
  }
  return spec;
}

}  // namespace

std::string tokenizer_image(const Tokenizer& tokenizer) {
  const BpeModel* const model = bpe_model(tokenizer.encoder());
  if (!model) return {};
  ImageWriter image;
  image.text(tokenizer.source());
  for (const int32_t id : {tokenizer.bos(), tokenizer.eos(), tokenizer.pad(), tokenizer.unk()})
    image.number(static_cast<uint64_t>(id));
  image.text(tokenizer.chat_template_source());
  put_spec(image, model->spec());
  model->put(image);
  return image.take();
}

std::unique_ptr<Tokenizer> tokenizer_from_image(std::span<const std::byte> bytes,
                                                std::shared_ptr<const void> memory) {
  ImageReader image(bytes, std::move(memory));
  TokenizerInfo info;
  info.source = image.text();
  for (int32_t* id : {&info.bos, &info.eos, &info.pad, &info.unk}) *id = static_cast<int32_t>(image.number());
  info.chat_template = image.text();
  BpeSpec spec = take_spec(image);
  BpeModel model(image, std::move(spec));
  if (!image.done()) return nullptr;
  return std::make_unique<Tokenizer>(make_bpe_encoder(std::move(model)), std::move(info));
}

}  // namespace flagscale::text
