// POST /v1/load_lora_adapter and /v1/unload_lora_adapter, with vLLM's bodies and answers. Only with
// --enable-lora, and only from folders below --lora-dir.

#include <filesystem>

#include "serve/api_error.h"
#include "serve/endpoint/endpoint.h"
#include "serve/fields.h"

namespace flagscale::serve {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestName = 256;

struct AdapterRequest {
  std::string name, path;
};

Fields<AdapterRequest> fields(bool with_path) {
  Fields<AdapterRequest> f;
  f.add(
      "lora_name", string_schema(), "what requests call it",
      [](AdapterRequest& r, const std::string& name, const Json& v) { r.name = read_string(name, v); }, true);
  if (with_path)
    f.add(
        "lora_path", string_schema(), "folder of a PEFT adapter, below --lora-dir",
        [](AdapterRequest& r, const std::string& name, const Json& v) { r.path = read_string(name, v); },
        true);
  f.add("lora_int_id", integer_schema({}), "has no effect",
        [](AdapterRequest&, const std::string&, const Json&) {});
  return f;
}
const Fields<AdapterRequest>& load_fields() {
  static const auto table = fields(true);
  return table;
}
const Fields<AdapterRequest>& unload_fields() {
  static const auto table = fields(false);
  return table;
}

engine::Adapters& adapters_of(const Context& context) {
  engine::Adapters* adapters = context.service.runner().adapters();
  if (!context.config.enable_lora || !adapters)
    throw ApiError(400, "this server loads no adapters: start it with --enable-lora --lora-dir FOLDER", {},
                   "lora_disabled");
  return *adapters;
}

// The folder below --lora-dir that a request names, links followed. What is outside is refused without saying
// whether it is there.
std::string folder_of(const Context& context, const std::string& path) {
  const std::string& root = context.config.lora_dir;
  if (root.empty())
    throw ApiError(400, "this server was started without --lora-dir: adapters cannot be loaded by request",
                   {}, "lora_disabled");
  std::error_code error;
  const fs::path base = fs::canonical(root, error);
  if (error) throw ApiError(400, "--lora-dir is not there any more", "lora_path");
  fs::path folder;
  if (path.find('\0') == std::string::npos && path.size() < 4096)
    folder = fs::weakly_canonical(base / path, error);
  const fs::path relative = folder.lexically_relative(base);
  if (error || relative.empty() || *relative.begin() == ".." || *relative.begin() == ".")
    refuse("lora_path", "lora_path must be a folder below --lora-dir");
  return folder.string();
}

void load_adapter(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  adapters_of(context);
  with_json_body(context, exchange, [&context, exchange](const Json& body, auto) {
    const AdapterRequest request = load_fields().read(body);
    if (request.name.empty() || request.name.size() > kLongestName)
      refuse("lora_name", "lora_name must have 1 to {} bytes", kLongestName);
    if (adapter_of(context, request.name).empty())
      refuse("lora_name", "'{}' is the model's own name", request.name);
    const std::string folder = folder_of(context, request.path);
    try {
      adapters_of(context).load(request.name, folder);
    } catch (const Error& error) {
      throw ApiError(error.kind() == ErrorKind::kNotFound ? 404 : 400, error.what(), "lora_path");
    }
    exchange->respond({200, "text/plain; charset=utf-8",
                       fmt::format("Success: LoRA adapter '{}' added successfully.", request.name)});
  });
}

// Answered when the last request of the adapter has ended.
void unload_adapter(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  adapters_of(context);
  with_json_body(context, exchange, [&context, exchange](const Json& body, auto) {
    const AdapterRequest request = unload_fields().read(body);
    const std::string answer = fmt::format("Success: LoRA adapter '{}' removed successfully.", request.name);
    try {
      adapters_of(context).unload(request.name, [exchange, answer] {
        exchange->post([exchange, answer] { exchange->respond({200, "text/plain; charset=utf-8", answer}); });
      });
    } catch (const Error&) {
      throw ApiError(
          404, fmt::format("The lora adapter '{}' cannot be found.", request.name.substr(0, kLongestName)),
          "lora_name");
    }
  });
}

const Registration<Endpoint> kLoadAdapter{"POST /v1/load_lora_adapter",
                                          {.summary = "load a LoRA adapter, with --enable-lora",
                                           .handle = &load_adapter,
                                           .body_schema = [] { return load_fields().schema(); },
                                           .content_type = "text/plain",
                                           .refusals = {404}}};
const Registration<Endpoint> kUnloadAdapter{"POST /v1/unload_lora_adapter",
                                            {.summary = "unload a LoRA adapter, with --enable-lora",
                                             .handle = &unload_adapter,
                                             .body_schema = [] { return unload_fields().schema(); },
                                             .content_type = "text/plain",
                                             .refusals = {404}}};

}  // namespace
}  // namespace flagscale::serve
