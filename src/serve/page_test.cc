// The chat page: what is sent with it. What it does is tried in a browser (tests/foreign/browser.py).

#include <gtest/gtest.h>

#include "net/digest.h"
#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

std::string between(const std::string& text, const std::string& open, const std::string& close) {
  const size_t begin = text.find(open) + open.size();
  return text.substr(begin, text.find(close, begin) - begin);
}

TEST(Page, ComesWithAStrictPolicyThatItsOwnScriptMeets) {
  TestServer server;
  const net::Response page = server.send("GET", "/");
  ASSERT_EQ(page.status, 200);
  EXPECT_EQ(page.header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_EQ(page.header("X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(page.header("X-Frame-Options"), "DENY");
  EXPECT_EQ(page.header("Referrer-Policy"), "no-referrer");
  const std::string policy(page.header("Content-Security-Policy"));
  EXPECT_TRUE(policy.starts_with("default-src 'none'; ")) << policy;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos) << policy;
  for (const std::string rule :
       {"connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"})
    EXPECT_NE(policy.find(rule), std::string::npos) << rule;
  for (const std::string tag : {"script", "style"})
    EXPECT_NE(policy.find(tag + "-src 'sha256-" +
                          net::sha256_base64(between(page.body, "<" + tag + ">", "</" + tag + ">")) + "'"),
              std::string::npos)
        << tag;
}

TEST(Page, NeedsNoOtherFileAndMakesNoMarkupOfText) {
  TestServer server;
  const std::string page = server.send("GET", "/").body;
  for (const std::string outside : {"src=", "@import", "url(", "href=\"http", "import("})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  for (const std::string danger :
       {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " onclick=\""})
    EXPECT_EQ(page.find(danger), std::string::npos) << danger;
}

TEST(Page, IsOpenWhereTheRestNeedsAKey) {
  ServiceConfig config;
  config.api_key = {"secret"};
  TestServer server(config);
  EXPECT_EQ(server.send("GET", "/").status, 200);
  EXPECT_EQ(server.send("HEAD", "/").status, 200);
  EXPECT_EQ(server.send("GET", "/v1/models").status, 401);  // on which the page asks for one
  EXPECT_EQ(server.send("POST", "/", "{}").status, 405);
}

TEST(Digest, IsThatOfSha256sum) {
  EXPECT_EQ(net::sha256_base64("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
}

}  // namespace
}  // namespace flagscale::serve::testing
