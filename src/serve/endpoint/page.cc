// GET /: a page to talk to the model with. It is one file of the program's own and asks nobody but this
// server.

#include <fmt/format.h>

#include <string_view>

#include "net/digest.h"
#include "serve/endpoint/endpoint.h"

namespace flagscale::serve {

extern const std::string_view kChatPage;  // page/chat.html, put in when the program is built

namespace {

std::string_view between(std::string_view text, std::string_view open, std::string_view close) {
  const size_t begin = text.find(open) + open.size();
  return text.substr(begin, text.find(close, begin) - begin);
}

// The page's own script and style run, and nothing else, whatever a model writes.
std::string policy() {
  return fmt::format(
      "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      net::sha256_base64(between(kChatPage, "<script>", "</script>")),
      net::sha256_base64(between(kChatPage, "<style>", "</style>")));
}

void page(Context&, const std::shared_ptr<net::Exchange>& exchange) {
  static const std::string rule = policy();
  exchange->respond({200,
                     "text/html; charset=utf-8",
                     std::string(kChatPage),
                     {{"Content-Security-Policy", rule},
                      {"X-Content-Type-Options", "nosniff"},
                      {"X-Frame-Options", "DENY"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Opener-Policy", "same-origin"},
                      {"Cache-Control", "no-cache"}}});
}

// Open, as a browser sends no key when it fetches a page: it holds no secret, and asks for the key itself.
const Registration<Endpoint> kPage{
    "GET /", {.summary = "a chat page", .guard = Guard::kOpen, .handle = &page, .content_type = "text/html"}};

}  // namespace
}  // namespace flagscale::serve
