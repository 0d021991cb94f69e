// Who may ask: keys, hosts, and pages of other sites.

#include <gtest/gtest.h>

#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

TEST(Security, KeysGuardEveryRouteButHealth) {
  ServiceConfig config;
  config.api_key = {"secret", "other"};
  TestServer server(config);
  EXPECT_EQ(server.send("GET", "/health").status, 200);
  const TestJson document =
      TestJson::parse(server.send("GET", "/openapi.json", "", {{"Authorization", "Bearer secret"}}).body);
  for (const auto& [path, methods] : document["paths"].items())
    for (const auto& [method, operation] : methods.items()) {
      if (path == "/health" || path == "/ping" || path == "/") continue;  // the page asks for the key
      const std::string verb = method == "get" ? "GET" : "POST";
      for (const net::Headers& headers :
           {net::Headers{}, net::Headers{{"Authorization", "Bearer wrong"}},
            net::Headers{{"Authorization", "secret"}}, net::Headers{{"Authorization", "Bearer "}}})
        EXPECT_EQ(server.send(verb, path, verb == "GET" ? "" : "{}", headers).status, 401) << path;
    }
  EXPECT_EQ(server.send("GET", "/v1/models", "", {{"authorization", "Bearer other"}}).status, 200);
  EXPECT_EQ(server.send("GET", "/v1/models", "", {{"Authorization", "bearer other"}}).status, 200);
  config.metrics_public = true;
  TestServer open_metrics(config);
  EXPECT_EQ(open_metrics.send("GET", "/metrics").status, 200);
  EXPECT_EQ(open_metrics.send("GET", "/version").status, 401);
}

TEST(Security, OriginsAndHosts) {
  ServiceConfig config;
  config.allowed_origins = {"https://app.example"};
  TestServer server(config);
  const net::Response preflight =
      server.client().send("OPTIONS", "/v1/chat/completions", "", {{"Origin", "https://app.example"}});
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.header("Access-Control-Allow-Origin"), "https://app.example");
  EXPECT_EQ(preflight.header("Access-Control-Allow-Credentials"), "");
  EXPECT_EQ(server.send("GET", "/v1/models", "", {{"Origin", "https://evil.example"}})
                .header("Access-Control-Allow-Origin"),
            "");
  EXPECT_EQ(server.client()
                .send("OPTIONS", "/v1/chat/completions", "", {{"Origin", "https://evil.example"}})
                .status,
            405);
}

// OpenAI's own client for browsers sends headers of its own.
TEST(Security, PreflightsAreGrantedWhatTheyAskFor) {
  ServiceConfig config;
  config.allowed_origins = {"*"};
  const auto preflight = [&](const std::string& headers) {
    const TestServer server(config);
    return server.client().send("OPTIONS", "/v1/chat/completions", "",
                                {{"Origin", "https://app.example"},
                                 {"Access-Control-Request-Method", "POST"},
                                 {"Access-Control-Request-Headers", headers}});
  };
  const std::string asked = "authorization,content-type,x-stainless-lang,x-stainless-retry-count";
  const net::Response any = preflight(asked);
  EXPECT_EQ(any.status, 204);
  EXPECT_EQ(any.header("Access-Control-Allow-Headers"), asked);
  EXPECT_NE(any.header("Access-Control-Allow-Methods").find("POST"), std::string::npos);
  EXPECT_EQ(preflight("x-a: b").header("Access-Control-Allow-Headers"), "Authorization, Content-Type")
      << "no list of names";
  config.allowed_headers = {"Authorization", "X-Mine"};
  config.allowed_methods = {"POST"};
  config.allow_credentials = true;
  const net::Response named = preflight(asked);
  EXPECT_EQ(named.header("Access-Control-Allow-Headers"),
            "Accept, Accept-Language, Content-Language, Content-Type, Authorization, X-Mine");
  EXPECT_EQ(named.header("Access-Control-Allow-Methods"), "POST");
  EXPECT_EQ(named.header("Access-Control-Allow-Credentials"), "true");
}

}  // namespace
}  // namespace flagscale::serve::testing
