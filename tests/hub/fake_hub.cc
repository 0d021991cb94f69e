#include "tests/hub/fake_hub.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <nlohmann/json.hpp>

namespace flagscale::hub {

namespace {

std::string hex_digest(const EVP_MD* kind, const std::string& bytes) {
  unsigned char sum[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(bytes.data(), bytes.size(), sum, &size, kind, nullptr);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) hex += fmt::format("{:02x}", sum[i]);
  return hex;
}

bool is_large(const std::string& name) { return name.ends_with(".safetensors") || name.ends_with(".gguf"); }

std::string checksum(const std::string& name, const std::string& bytes) {
  return is_large(name) ? sha256(bytes) : git_sha1(bytes);
}

net::Response refusal(int status, const std::string& why) {
  return {status, "application/json", nlohmann::json{{"error", why}}.dump()};
}

}  // namespace

std::string sha256(const std::string& bytes) { return hex_digest(EVP_sha256(), bytes); }
std::string git_sha1(const std::string& bytes) {
  return hex_digest(EVP_sha1(), fmt::format("blob {}", bytes.size()) + std::string(1, '\0') + bytes);
}

FakeHub::FakeHub() : server_({}, [this](std::shared_ptr<net::Exchange> exchange) { answer(exchange); }) {}

FakeHub::~FakeHub() {
  for (std::thread& dropper : droppers_) dropper.join();
}

std::string FakeHub::url() const { return fmt::format("http://127.0.0.1:{}", server_.port()); }

void FakeHub::answer(const std::shared_ptr<net::Exchange>& exchange) {
  const std::lock_guard lock(mutex_);
  ++requests;
  const net::Request& request = exchange->request();
  const std::string resolve = "/owner/model/resolve/" + commit + "/", storage = "/storage/";
  if (request.path.starts_with(storage)) {
    storage_authorization = request.header("authorization");
    return send_file(exchange, request.path.substr(storage.size()));
  }
  if (!token.empty() && request.header("authorization") != "Bearer " + token)
    return exchange->respond(refusal(401, "Access to model owner/model is restricted"));
  if (request.path == "/api/models/owner/model/revision/main" ||
      request.path == "/api/models/owner/model/revision/" + commit)
    return exchange->respond(describe());
  if (request.path.starts_with(resolve) && files.contains(request.path.substr(resolve.size())))
    return exchange->respond(redirect(request.path.substr(resolve.size())));
  exchange->respond(refusal(404, "Repository not found"));
}

net::Response FakeHub::describe() const {
  nlohmann::json siblings = nlohmann::json::array();
  for (const auto& [name, bytes] : files) {
    nlohmann::json sibling{{"rfilename", name}};
    if (list_checksums) {
      sibling["size"] = bytes.size();
      sibling["blobId"] = git_sha1(bytes);
      if (is_large(name))
        sibling["lfs"] = {{"sha256", sha256(bytes)}, {"size", bytes.size()}, {"pointerSize", 130}};
    }
    siblings.push_back(sibling);
  }
  return {200, "application/json",
          nlohmann::json{{"id", "owner/model"}, {"sha", commit}, {"siblings", siblings}}.dump()};
}

// As the hub does: its own headers here, the bytes from another host.
net::Response FakeHub::redirect(const std::string& file) const {
  const std::string& bytes = files.at(file);
  return {302,
          "text/plain",
          "",
          {{"Location", fmt::format("http://localhost:{}/storage/{}", server_.port(), file)},
           {"X-Repo-Commit", commit},
           {"X-Linked-Etag", '"' + checksum(file, bytes) + '"'},
           {"X-Linked-Size", std::to_string(bytes.size())}}};
}

void FakeHub::send_file(const std::shared_ptr<net::Exchange>& exchange, const std::string& file) {
  std::string bytes = files.at(file);
  if (damaged.contains(file)) bytes.back() = static_cast<char>(bytes.back() ^ 1);
  const std::string range(exchange->request().header("range"));
  ranges[file] = range;
  size_t from = 0;
  if (!range.empty()) from = std::stoul(range.substr(range.find('=') + 1));
  net::Response head{from > 0 ? 206 : 200, "application/octet-stream", ""};
  if (from > 0)
    head.headers.push_back(
        {"Content-Range", fmt::format("bytes {}-{}/{}", from, bytes.size() - 1, bytes.size())});
  if (cut_after > 0 && bytes.size() - from > cut_after) {
    ++cuts;
    exchange->begin(head);
    exchange->write(bytes.substr(from, cut_after));
    droppers_.emplace_back([exchange] {  // unfinished, once the peer has what was written
      do std::this_thread::sleep_for(std::chrono::milliseconds(200));
      while (exchange->unsent() > 0);
    });
    return;
  }
  head.body = bytes.substr(from);
  exchange->respond(head);
}

}  // namespace flagscale::hub
