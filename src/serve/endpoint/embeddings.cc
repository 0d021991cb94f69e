// POST /v1/embeddings: the last token's hidden state, of length one.

#include <cmath>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "serve/api_error.h"
#include "serve/endpoint/endpoint.h"
#include "serve/generation/answer_format.h"
#include "serve/generation/prompt.h"

namespace flagscale::serve {
namespace {

struct EmbeddingRequest {
  std::string model, encoding = "float";
  std::vector<PromptInput> inputs;
  std::optional<int64_t> truncate_prompt_tokens;
  bool add_special_tokens = true;
};

const Fields<EmbeddingRequest>& fields() {
  static const Fields<EmbeddingRequest> table = [] {
    Fields<EmbeddingRequest> f;
    f.add(
        "input", kPromptSchema, "what to embed",
        [](EmbeddingRequest& r, const std::string& name, const Json& v) { r.inputs = read_prompts(name, v); },
        true);
    f.text("model", &EmbeddingRequest::model, "a name of /v1/models");
    f.add("encoding_format", choice_schema({"float", "base64"}), "numbers, or their bytes",
          [](EmbeddingRequest& r, const std::string& name, const Json& v) {
            r.encoding = read_string(name, v);
            if (r.encoding != "float" && r.encoding != "base64")
              refuse(name, "{} must be float or base64", name);
          });
    f.add("dimensions", integer_schema({.least = 1}), "not supported",
          [](EmbeddingRequest&, const std::string& name, const Json& v) {
            read_integer(name, v, {.least = 1});
            refuse(name, "this model's embeddings have one size: dimensions is not supported");
          });
    add_truncation_field(f);
    f.flag("add_special_tokens", &EmbeddingRequest::add_special_tokens,
           "what the tokenizer adds around a text");
    return f;
  }();
  return table;
}

std::string base64(const std::vector<float>& values) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<unsigned char> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = bytes.size() - i;
    const unsigned group = unsigned{bytes[i]} << 16 | (left > 1 ? unsigned{bytes[i + 1]} << 8 : 0) |
                           (left > 2 ? unsigned{bytes[i + 2]} : 0);
    for (int digit = 0; digit < 4; ++digit)
      text += static_cast<size_t>(digit) > left ? '=' : kDigits[group >> (18 - 6 * digit) & 63];
  }
  return text;
}

// The embeddings of one exchange, until all are there.
struct Work {
  explicit Work(Metrics& all) : metrics(all) { ++metrics.in_flight; }
  ~Work() { --metrics.in_flight; }
  Work(const Work&) = delete;

  Metrics& metrics;
  std::shared_ptr<net::Exchange> exchange;
  std::string model;
  bool as_base64 = false;
  std::vector<std::vector<float>> results;
  size_t missing = 0;
  int64_t tokens = 0;
  bool answered = false;

  void take(size_t i, engine::Event event) {
    if (answered) return;
    if (event.finish == engine::FinishReason::kError || event.finish == engine::FinishReason::kCancelled) {
      answered = true;
      return exchange->respond(
          error_response(500, event.error.empty() ? "the request was cancelled" : event.error));
    }
    if (event.embedding.empty()) return;
    double sum = 0;
    for (const float value : event.embedding) sum += static_cast<double>(value) * value;
    for (float& value : event.embedding) value = static_cast<float>(value / std::max(std::sqrt(sum), 1e-12));
    results[i] = std::move(event.embedding);
    if (--missing == 0) answer();
  }
  void answer() {
    answered = true;
    Json data = Json::array();
    for (size_t i = 0; i < results.size(); ++i)
      data.push_back({{"object", "embedding"},
                      {"index", i},
                      {"embedding", as_base64 ? Json(base64(results[i])) : Json(results[i])}});
    exchange->respond(
        {200, "application/json",
         dump({{"id", "embd-" + random_id(29)},
               {"object", "list"},
               {"created", unix_seconds()},
               {"model", model},
               {"data", std::move(data)},
               {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}, {"completion_tokens", 0}}}})});
  }
};

void embeddings(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  with_json_body(context, exchange, [&context, exchange](const Json& body, auto) {
    const EmbeddingRequest request = fields().read(body);
    const auto work = std::make_shared<Work>(context.metrics);
    work->exchange = exchange;
    work->model = check_model(context, request.model);
    work->as_base64 = request.encoding == "base64";
    check_count(context, "input", request.inputs.size());
    std::vector<engine::Submission> all;
    for (const PromptInput& input : request.inputs) {
      engine::Request one;
      one.prompt = prompt_ids(context.model, input, request.add_special_tokens, "input");
      truncate(one.prompt, request.truncate_prompt_tokens, context.model.limits.max_model_len);
      if (static_cast<int64_t>(one.prompt.size()) > context.model.limits.max_model_len)
        throw ApiError(400,
                       fmt::format("This model's maximum context length is {} tokens. The input has {}.",
                                   context.model.limits.max_model_len, one.prompt.size()),
                       "input", "context_length_exceeded");
      one.embed = true;
      one.adapter = adapter_of(context, work->model);
      work->tokens += static_cast<int64_t>(one.prompt.size());
      all.push_back({std::move(one), [work, i = all.size()](engine::Event event) {
                       work->exchange->post([work, i, event = std::move(event)]() mutable {
                         work->take(i, std::move(event));
                       });
                     }});
    }
    work->results.resize(all.size());
    work->missing = all.size();
    const std::vector<uint64_t> ids = context.service.submit(std::move(all));
    exchange->on_disconnect([&context, ids] {
      for (const uint64_t id : ids) context.service.cancel(id);
    });
  });
}

std::string embedding_response_schema() {
  return R"({"type":"object","required":["object","data","model","usage"],"properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object",
"required":["object","index","embedding"],"properties":{"object":{"const":"embedding"},"index":{"type":"integer"}}}}}})";
}

const Registration<Endpoint> kEmbeddings{"POST /v1/embeddings",
                                         {.summary = "vectors of texts: the last token's hidden state",
                                          .handle = &embeddings,
                                          .body_schema = [] { return fields().schema(); },
                                          .response_schema = &embedding_response_schema,
                                          .refusals = {404}}};

}  // namespace
}  // namespace flagscale::serve
