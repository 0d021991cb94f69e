#include "text/rust_tokenizer.h"

#include <cstring>

#include "text/rust_library.h"
#include "text/token_table.h"

namespace flagscale::text {
namespace {

class RustTokenizer : public Encoder {
 public:
  explicit RustTokenizer(std::string_view json) {
    RustBuffer error;
    const FsStatus status = fs_tokenizer_new(bytes_of(json), json.size(), &handle_, error.out());
    check_rust(status, error, "tokenizer.json", RustFault::kCorruptFile);
    try {
      read_vocab();
    } catch (...) {
      fs_tokenizer_free(handle_);
      throw;
    }
  }
  ~RustTokenizer() override { fs_tokenizer_free(handle_); }
  RustTokenizer(const RustTokenizer&) = delete;
  RustTokenizer& operator=(const RustTokenizer&) = delete;

  void encode(std::string_view text, bool add_special, std::vector<int32_t>& ids) const override {
    RustBuffer result;
    const FsStatus status =
        fs_tokenizer_encode(handle_, bytes_of(text), text.size(), add_special, result.out());
    check_rust(status, result, "tokenizer", RustFault::kInvalidArgument);
    const size_t old = ids.size(), bytes = result.view().size();
    ids.resize(old + bytes / sizeof(int32_t));
    if (bytes > 0) std::memcpy(ids.data() + old, result.view().data(), bytes);
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    std::vector<uint32_t> known;
    for (const int32_t id : ids)
      if (id >= 0) known.push_back(static_cast<uint32_t>(id));
    RustBuffer result;
    const FsStatus status =
        fs_tokenizer_decode(handle_, known.data(), known.size(), skip_special, result.out());
    check_rust(status, result, "tokenizer", RustFault::kInvalidArgument);
    return std::string(result.view());
  }

  int32_t vocab_size() const override { return vocab_size_; }
  std::string id_to_token(int32_t id) const override { return std::string(tokens_.text(id)); }
  std::optional<int32_t> token_to_id(std::string_view token) const override { return tokens_.find(token); }
  bool is_special(int32_t id) const override {
    return id >= 0 && id < vocab_size_ && special_[static_cast<size_t>(id)];
  }
  std::optional<std::string> token_bytes(int32_t, bool) const override { return std::nullopt; }
  const char* kind() const override { return "tokenizers"; }

 private:
  void read_vocab() {
    RustBuffer result;
    const FsStatus status = fs_tokenizer_vocab(handle_, result.out());
    check_rust(status, result, "tokenizer.json", RustFault::kCorruptFile);
    TokenTable::Builder builder;
    const std::string_view bytes = result.view();
    for (size_t at = 0; at < bytes.size();) {
      uint32_t head[3];  // id, special, size
      std::memcpy(head, bytes.data() + at, sizeof head);
      builder.add(head[0], bytes.substr(at + sizeof head, head[2]), "tokenizer.json");
      if (head[1]) special_.resize(head[0] + size_t{1}), special_[head[0]] = true;
      at += sizeof head + head[2];
    }
    tokens_ = builder.build();
    vocab_size_ = tokens_.size();
    special_.resize(static_cast<size_t>(vocab_size_));
  }

  FsTokenizer* handle_ = nullptr;
  TokenTable tokens_;
  std::vector<bool> special_;
  int32_t vocab_size_ = 0;
};

}  // namespace

std::unique_ptr<const Encoder> make_rust_tokenizer(std::string_view json) {
  return std::make_unique<RustTokenizer>(json);
}

}  // namespace flagscale::text
