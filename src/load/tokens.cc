#include "load/tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flagscale::load {

namespace {

using Json = nlohmann::json;

constexpr const char* kCommonWords =
    "the of and to in a is that for it was on are as with his they at be this from have or by one had not "
    "but what all "
    "were when we there can an your which their said if do will each about how up out them then she many "
    "some so these "
    "would other into has more her two like him see time could no make than first been its who now people my "
    "made over "
    "did down only way find use may water long little very after words called just where most know get "
    "through back "
    "much before go good new write our used me man too any day same right look think also around another "
    "came come work "
    "three word must because does part even place well such here take why things help put years different "
    "away again off "
    "went old number great tell men say small every found still between name should home big give air line "
    "set own under "
    "read last never us left end along while might next sound below saw something thought both few those "
    "always looked "
    "show large often together asked house world going want school important until form food keep children "
    "feet land";

class LocalTokens final : public Tokens {
 public:
  explicit LocalTokens(std::unique_ptr<text::Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {
    for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id)
      if (!tokenizer_->is_special(id) && !tokenizer_->id_to_token(id).empty()) plain_.push_back(id);
  }
  std::vector<int32_t> encode(const std::string& text) override { return tokenizer_->encode(text); }
  std::string decode(const std::vector<int32_t>& ids) override {
    return tokenizer_->decode(ids, /*skip_special=*/false);
  }
  const std::vector<int32_t>& plain() override { return plain_; }

 private:
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::vector<int32_t> plain_;
};

class ServerTokens final : public Tokens {
 public:
  ServerTokens(net::Client client, std::string model, net::Headers headers)
      : client_(std::move(client)), model_(std::move(model)), headers_(std::move(headers)) {
    headers_.emplace_back("Content-Type", "application/json");
    plain_ = encode(kCommonWords);
    std::sort(plain_.begin(), plain_.end());
    plain_.erase(std::unique(plain_.begin(), plain_.end()), plain_.end());
  }
  std::vector<int32_t> encode(const std::string& text) override {
    return ask("/tokenize", {{"prompt", text}, {"add_special_tokens", false}}, "tokens")
        .get<std::vector<int32_t>>();
  }
  std::string decode(const std::vector<int32_t>& ids) override {
    return ask("/detokenize", {{"tokens", ids}}, "prompt").get<std::string>();
  }
  const std::vector<int32_t>& plain() override { return plain_; }

 private:
  Json ask(const std::string& path, Json body, const char* field) {
    body["model"] = model_;
    const net::Response response = client_.send("POST", path, body.dump(), headers_);
    const Json answer = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
    if (response.status == 200 && answer.is_object() && answer.contains(field)) return answer[field];
    fail(ErrorKind::kResource,
         "the server does not answer {} ({} {}): give the model's tokenizer with --tokenizer PATH", path,
         response.status, net::reason(response.status));
  }
  net::Client client_;
  std::string model_;
  net::Headers headers_;
  std::vector<int32_t> plain_;
};

}  // namespace

std::unique_ptr<Tokens> local_tokens(std::unique_ptr<text::Tokenizer> tokenizer) {
  return std::make_unique<LocalTokens>(std::move(tokenizer));
}
std::unique_ptr<Tokens> server_tokens(net::Client client, const std::string& model,
                                      const net::Headers& headers) {
  return std::make_unique<ServerTokens>(std::move(client), model, headers);
}

}  // namespace flagscale::load
