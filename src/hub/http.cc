#include "hub/http.h"

#include <curl/curl.h>
#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <utility>

#include "base/interrupt.h"
#include "base/library_function.h"

namespace flagscale::hub {

namespace {

// The functions of libcurl that are used, looked up once.
struct Curl {
  decltype(&curl_easy_init) init;
  decltype(&curl_easy_cleanup) cleanup;
  CURLcode (*setopt)(CURL*, CURLoption, ...);
  CURLcode (*getinfo)(CURL*, CURLINFO, ...);
  decltype(&curl_easy_perform) perform;
  decltype(&curl_easy_strerror) strerror;
  void (*reset)(CURL*);
  decltype(&curl_slist_append) append;
  decltype(&curl_slist_free_all) free_all;
};

template <class F>
void find(void* library, const char* symbol, F& function) {
  if (!find_function(library, symbol, function)) fail(ErrorKind::kUnsupported, "libcurl has no {}", symbol);
}

Curl open_curl() {
  void* library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
  if (!library) library = dlopen("libcurl-gnutls.so.4", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    fail(ErrorKind::kUnsupported, "fetching from the hub needs libcurl: install the package libcurl4");
  Curl curl{};
  decltype(&curl_global_init) global_init;
  find(library, "curl_global_init", global_init);
  find(library, "curl_easy_init", curl.init);
  find(library, "curl_easy_cleanup", curl.cleanup);
  find(library, "curl_easy_setopt", curl.setopt);
  find(library, "curl_easy_getinfo", curl.getinfo);
  find(library, "curl_easy_perform", curl.perform);
  find(library, "curl_easy_strerror", curl.strerror);
  find(library, "curl_easy_reset", curl.reset);
  find(library, "curl_slist_append", curl.append);
  find(library, "curl_slist_free_all", curl.free_all);
  global_init(CURL_GLOBAL_DEFAULT);
  return curl;
}

const Curl& curl() {
  static const Curl instance = open_curl();
  return instance;
}

std::string trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return std::string(text);
}

}  // namespace

struct Http::Transfer {
  Response response;
  uint64_t offset = 0;
  const std::function<void(uint64_t)>* begin = nullptr;  // null: the body is kept
  const std::function<void(std::span<const char>)>* bytes = nullptr;
  bool begun = false;
  CURL* handle = nullptr;
  std::exception_ptr error;  // nothing is thrown through libcurl
};

Http::Http(std::string token) : token_(std::move(token)), handle_(curl().init()) {
  if (!handle_) fail(ErrorKind::kResource, "libcurl has no room for a connection");
}

Http::~Http() {
  curl().free_all(static_cast<curl_slist*>(headers_));
  curl().cleanup(handle_);
}

size_t Http::on_header(char* data, size_t size, size_t count, void* transfer) {
  auto& headers = static_cast<Transfer*>(transfer)->response.headers;
  const std::string_view line(data, size * count);
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return line.size();
  std::string name = trimmed(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  headers[name] = trimmed(line.substr(colon + 1));
  return line.size();
}

size_t Http::on_body(char* data, size_t size, size_t count, void* pointer) {
  auto& transfer = *static_cast<Transfer*>(pointer);
  const std::span<const char> bytes(data, size * count);
  constexpr size_t kMostKept = size_t{64} << 20;
  try {
    curl().getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &transfer.response.status);
    if (!transfer.begin || transfer.response.status >= 300) {
      if (transfer.response.body.size() + bytes.size() > kMostKept)
        fail(ErrorKind::kCorrupt, "the answer is over 64 MB long");
      transfer.response.body.append(bytes.data(), bytes.size());
      return bytes.size();
    }
    if (!std::exchange(transfer.begun, true))
      (*transfer.begin)(transfer.response.status == 206 ? transfer.offset : 0);
    (*transfer.bytes)(bytes);
    return bytes.size();
  } catch (...) {
    transfer.error = std::current_exception();
    return 0;
  }
}

int Http::on_progress(void*, int64_t, int64_t, int64_t, int64_t) { return interrupted() ? 1 : 0; }

void Http::prepare(const std::string& url) {
  const Curl& c = curl();
  c.reset(handle_);
  c.free_all(static_cast<curl_slist*>(headers_));
  headers_ = nullptr;
  if (!token_.empty()) headers_ = c.append(nullptr, ("Authorization: Bearer " + token_).c_str());
  c.setopt(handle_, CURLOPT_URL, url.c_str());
  c.setopt(handle_, CURLOPT_HTTPHEADER, headers_);
  c.setopt(handle_, CURLOPT_USERAGENT, "flagscale");
  c.setopt(handle_, CURLOPT_FOLLOWLOCATION, 1L);
  c.setopt(handle_, CURLOPT_MAXREDIRS, 8L);
  c.setopt(handle_, CURLOPT_CONNECTTIMEOUT, 20L);
  c.setopt(handle_, CURLOPT_LOW_SPEED_LIMIT, 1L);  // a connection that gives nothing for a minute is dead
  c.setopt(handle_, CURLOPT_LOW_SPEED_TIME, 60L);
  c.setopt(handle_, CURLOPT_NOSIGNAL, 1L);
  c.setopt(handle_, CURLOPT_NOPROGRESS, 0L);
  c.setopt(handle_, CURLOPT_XFERINFOFUNCTION, &Http::on_progress);
}

void Http::perform(const std::string& url, Transfer& transfer) {
  const Curl& c = curl();
  transfer.handle = handle_;
  c.setopt(handle_, CURLOPT_HEADERFUNCTION, &Http::on_header);
  c.setopt(handle_, CURLOPT_HEADERDATA, &transfer);
  c.setopt(handle_, CURLOPT_WRITEFUNCTION, &Http::on_body);
  c.setopt(handle_, CURLOPT_WRITEDATA, &transfer);
  const CURLcode code = c.perform(handle_);
  if (transfer.error) std::rethrow_exception(transfer.error);
  throw_if_interrupted();
  if (code != CURLE_OK) throw NetworkError(url + ": " + c.strerror(code));
  c.getinfo(handle_, CURLINFO_RESPONSE_CODE, &transfer.response.status);
}

Response Http::get(const std::string& url) {
  Transfer transfer;
  prepare(url);
  perform(url, transfer);
  return std::move(transfer.response);
}

Response Http::head(const std::string& url) {
  Transfer transfer;
  prepare(url);
  curl().setopt(handle_, CURLOPT_NOBODY, 1L);
  curl().setopt(handle_, CURLOPT_FOLLOWLOCATION, 0L);
  perform(url, transfer);
  return std::move(transfer.response);
}

long Http::download(const std::string& url, uint64_t offset, const std::function<void(uint64_t)>& begin,
                    const std::function<void(std::span<const char>)>& bytes) {
  Transfer transfer;
  transfer.offset = offset;
  transfer.begin = &begin;
  transfer.bytes = &bytes;
  prepare(url);
  const std::string range = std::to_string(offset) + "-";
  if (offset > 0) curl().setopt(handle_, CURLOPT_RANGE, range.c_str());
  perform(url, transfer);
  if (transfer.response.status < 300 && !transfer.begun) begin(0);  // an empty file
  return transfer.response.status;
}

}  // namespace flagscale::hub
