// One case a class of what has hurt servers of models (vLLM, SGLang, llama.cpp, Triton, Ollama and HTTP at
// large): each gets its 4xx soon, and a neighbour's answer goes on meanwhile as if nothing were.

#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "base/error.h"
#include "net/client_socket.h"
#include "serve/server_test_support.h"

namespace flagscale::serve::testing {
namespace {

using Clock = std::chrono::steady_clock;
using std::string_literals::operator""s;

// Milliseconds that the median of kRepeats refusals may take; loose where nothing is measured. `./dev bench
// refusals` sets it.
const char* const kLimit = std::getenv("FLAGSCALE_REFUSAL_MS");
constexpr int kRepeats = 9;

struct Attack {
  const char* name;
  std::string path, body;
  std::vector<int> statuses;  // any of these
};

std::string repeated(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

Attack on_completions(const char* name, const TestJson& more, std::vector<int> statuses) {
  return {name, "/v1/completions", completion("x", more).dump(), std::move(statuses)};
}
Attack on_chat(const char* name, const TestJson& more, std::vector<int> statuses) {
  return {name, "/v1/chat/completions", chat("x", more).dump(), std::move(statuses)};
}

TestJson schema(const std::string& text) {
  return {{"response_format",
           {{"type", "json_schema"}, {"json_schema", {{"name", "s"}, {"schema", TestJson::parse(text)}}}}}};
}

std::vector<Attack> number_attacks() {
  return {on_completions("a huge n", {{"n", 1'000'000'000}}, {422}),
          on_completions("an n past 64 bits", {{"n", 1e30}}, {400}),
          on_completions("a negative n", {{"n", -1}}, {400}),
          on_completions("a huge best_of", {{"best_of", 2'000'000'000}}, {422}),
          on_completions("negative max_tokens", {{"max_tokens", -2147483648LL}}, {400}),
          on_completions("max_tokens past 32 bits", {{"max_tokens", 4294967297LL}}, {400}),
          on_completions("a huge min_tokens", {{"min_tokens", 9'000'000'000'000LL}}, {400}),
          on_completions("a huge logprobs", {{"logprobs", 1'000'000'000}}, {400}),
          on_completions("a negative truncation", {{"truncate_prompt_tokens", -5}}, {400}),
          on_completions("a negative top_k", {{"top_k", -9'000'000'000LL}}, {400}),
          on_completions("a temperature past a double", {{"temperature", "1e999"}}, {400}),
          on_completions("token ids out of range", {{"prompt", {0, 2147483647}}}, {400}),
          on_completions("negative token ids", {{"prompt", {-1, -2147483648LL}}}, {400}),
          on_completions("a bias outside the vocabulary", {{"logit_bias", {{"-5", 1}}}}, {400}),
          on_completions("stop ids outside the vocabulary", {{"stop_token_ids", {1 << 30}}}, {400}),
          on_completions("many prompts of many choices",
                         {{"prompt", std::vector<std::string>(1000, "<<x>>")}, {"n", 100}}, {422}),
          {"detokenising what is no token", "/detokenize", R"({"tokens": [4294967296]})", {400}}};
}

TestJson wide_schema(int properties) {
  TestJson schema = {{"type", "object"}, {"properties", TestJson::object()}};
  for (int i = 0; i < properties; ++i) schema["properties"]["k" + std::to_string(i)] = {{"type", "string"}};
  return schema;
}

// So many links, or as many as 250 kB hold, in which @ is a link's own number and ^ the next one's; `last` is
// not linked.
std::string chain(int links, const std::string& start, const std::string& link, const std::string& last) {
  std::string text = start;
  int i = 0;
  const auto add = [&](const std::string& part) {
    for (const char c : part)
      c == '@' ? text += std::to_string(i) : c == '^' ? text += std::to_string(i + 1) : text += c;
  };
  for (; i < links && text.size() < 250'000; ++i) add(link);
  add(last);
  return text;
}

// They are followed by recursion. Each is a grammar, or too much of one.
std::vector<Attack> chain_attacks() {
  const auto chained = [](int links, const std::string& link) {
    return schema(chain(links, R"({"$ref":"#/x/0","x":[)", link, R"({"type":"string"}]})"));
  };
  const auto of_schemas = [&](const char* name, const std::string& link) {
    return on_completions(name, chained(1999, link), {200, 400, 422});
  };
  const auto of_rules = [](const char* name, const std::string& link, const std::string& last) {
    return on_completions(name, {{"guided_grammar", chain(100'000, "start: r0 T0\n", link, last)}},
                          {200, 400, 422});
  };
  return {on_completions("too many references", chained(2000, R"({"$ref":"#/x/^"},)"), {422}),
          of_schemas("a chain of references", R"({"$ref":"#/x/^"},)"),
          of_schemas("a chain of lists", R"({"type":"array","items":{"$ref":"#/x/^"}},)"),
          of_schemas("a chain of objects",
                     R"({"type":"object","properties":{"a":{"$ref":"#/x/^"}},"required":["a"]},)"),
          of_schemas("a chain of choices", R"({"anyOf":[{"$ref":"#/x/^"},{"type":"null"}]},)"),
          of_schemas("a chain of schemas that all hold", R"({"allOf":[{"$ref":"#/x/^"},{"minLength":1}]},)"),
          of_rules("a chain of rules", "r@: \"a\" r^\n", "r@: \"b\"\nT0: \"c\"\n"),
          of_rules("a chain of rules that may end", "r@: \"a\" r^ | \"c\"\n", "r@: \"b\"\nT0: \"c\"\n"),
          of_rules("a chain of terminals", "T@: \"a\" T^\n", "T@: \"b\"\nr0: \"c\"\n")};
}

std::vector<Attack> grammar_attacks() {
  std::string deep = R"({"type":"string"})";
  for (int i = 0; i < 60; ++i) deep = R"({"type":"array","items":)" + deep + "}";
  return {
      on_completions("a regex that multiplies", {{"guided_regex", "((((a{100}){100}){100}){100}){100}"}},
                     {200, 400}),
      on_completions("a regex of lookaheads", {{"guided_regex", "(?=a)(?!b)(a|aa)+$"}}, {400}),
      on_completions("a regex of open brackets", {{"guided_regex", std::string(10'000, '(')}}, {400, 422}),
      on_completions("a regex of 20 kB", {{"guided_regex", std::string(20'000, 'a')}}, {422}),
      on_completions("a grammar that is none", {{"guided_grammar", "start: start start | missing"}}, {400}),
      on_completions("a grammar of 300 kB",
                     {{"guided_grammar", "start: \"" + std::string(300'000, 'a') + "\""}}, {422}),
      on_completions("a schema of another host", schema(R"({"$ref": "http://169.254.169.254/schema"})"),
                     {400}),
      on_completions("a schema of a file", schema(R"({"$ref": "file:///etc/passwd"})"), {400}),
      on_completions("a schema with a bad pattern", schema(R"({"type":"string","pattern":"(a+)+("})"), {400}),
      on_completions("a schema of no type", schema(R"({"type": 3})"), {400}),
      on_completions("a schema of 400 kB",
                     {{"guided_json", {{"type", "string"}, {"enum", {std::string(400'000, 'a')}}}}}, {422}),
      on_completions("deep, wide schemas", schema(deep), {200, 400}),
      on_completions("a wide schema", schema(wide_schema(900).dump()), {422}),
      on_completions("one as wide as may be", schema(wide_schema(480).dump()), {200}),
      on_completions("a schema of 5,000 objects",
                     {{"guided_json", {{"anyOf", std::vector<TestJson>(5000, wide_schema(1))}}}}, {422}),
      on_completions("a large divisor", schema(R"({"type":"integer","multipleOf":99999989})"), {422}),
      on_completions("a divisor of many digits", schema(R"({"type":"number","multipleOf":0.0099991})"),
                     {422}),
      on_completions(
          "divisors that multiply",
          schema(R"({"allOf":[{"type":"integer","multipleOf":997},{"type":"integer","multipleOf":991}]})"),
          {422}),
      on_completions(
          "a divisor in a grammar",
          {{"guided_grammar", "start: %json {\"type\":\"integer\",\"\\u006dultipleOf\":99999989}"}}, {422}),
      on_chat("a divisor in a tool",
              {{"tools",
                {{{"type", "function"},
                  {"function",
                   {{"name", "f"},
                    {"parameters",
                     {{"type", "object"},
                      {"properties", {{"a", {{"type", "integer"}, {"multipleOf", 9999991}}}}}}}}}}}}},
              {422}),
      on_completions("many choices", {{"guided_choice", std::vector<std::string>(5000, "a")}}, {422}),
      on_completions("two constraints", {{"guided_regex", "a"}, {"guided_choice", {"a"}}}, {400})};
}

std::vector<Attack> content_attacks() {
  const TestJson tool = {{"type", "function"},
                         {"function", {{"name", "f"}, {"parameters", {{"type", "nothing"}}}}}};
  return {
      {"JSON 60,000 deep", "/v1/chat/completions", repeated("{\"a\":", 60'000), {400}},
      {"lists 60,000 deep",
       "/v1/completions",
       "{\"prompt\": " + repeated("[", 60'000) + repeated("]", 60'000) + "}",
       {400}},
      {"an object of 5,000 keys",
       "/v1/completions",
       "{\"prompt\":\"x\"" +
           [] {
             std::string keys;
             for (int i = 0; i < 5000; ++i) keys += ",\"k" + std::to_string(i) + "\":1";
             return keys;
           }() +
           "}",
       {422}},
      {"a template in a request",
       "/v1/chat/completions",
       chat("x", {{"chat_template", "{{ ''.__class__.__mro__ }}"}}).dump(),
       {400}},
      on_chat("a template's own variables", {{"chat_template_kwargs", {{"messages", TestJson::array()}}}},
              {400}),
      on_chat("deep variables of the template",
              {{"chat_template_kwargs",
                TestJson::parse("{\"a\":" + repeated("[", 110) + repeated("]", 110) + "}")}},
              {400}),
      on_chat("a picture from another host",
              {{"messages",
                {{{"role", "user"},
                  {"content",
                   {{{"type", "image_url"},
                     {"image_url", {{"url", "http://169.254.169.254/latest/meta-data"}}}}}}}}}},
              {400}),
      on_chat("a role that is no text", {{"messages", {{{"role", {{"a", 1}}}, {"content", "x"}}}}}, {400}),
      on_chat("tools with a broken schema", {{"tools", {tool}}, {"tool_choice", "required"}}, {400}),
      on_chat("tools with a broken schema, left to the model", {{"tools", {tool}}}, {400}),
      on_chat("1,000 tools", {{"tools", std::vector<TestJson>(1000, tool)}}, {422}),
      on_completions("pickled embeddings for a prompt", {{"prompt", nullptr}, {"prompt_embeds", "gASVAAAA"}},
                     {400}),
      on_completions("100 stop strings", {{"stop", std::vector<std::string>(100, "a")}}, {422}),
      on_completions("a stop string of 1 MB", {{"stop", std::string(1 << 20, 'a')}}, {422}),
      on_completions("a prompt past the model's length", {{"prompt", std::string(1 << 20, 'a')}}, {400}),
      {"a body of 9 MB", "/v1/completions", completion(std::string(9 << 20, 'a')).dump(), {413}},
      {"an adapter out of its folder",
       "/v1/load_lora_adapter",
       R"({"lora_name": "a", "lora_path": "../../../../etc"})",
       {400, 403, 404}},
      {"an adapter named as a path",
       "/v1/load_lora_adapter",
       R"({"lora_name": "../../etc/passwd", "lora_path": "/etc"})",
       {400, 403, 404}},
      on_completions("a model named as a path", {{"model", "../../../etc/passwd"}}, {404}),
      on_completions("a model's name of 1 MB", {{"model", std::string(1 << 20, 'm')}}, {404}),
      {"bytes that are no UTF-8", "/v1/completions", "{\"prompt\": \"\xc3\x28\"}", {400}},
      {"half a surrogate", "/v1/completions", R"({"prompt": "\ud800"})", {400}}};
}

// The status of what a peer gets for these bytes; 0: the connection was closed without one.
int status_of(int port, const std::string& bytes) {
  net::ClientSocket socket({false, "127.0.0.1", port, "/"}, {});
  std::string answer;
  char space[4096];
  try {
    socket.write(bytes);
    for (size_t n = 1; n > 0 && answer.find("\r\n") == std::string::npos;)
      answer.append(space, n = socket.read(space, sizeof space));
  } catch (const Error&) {  // closed while we wrote
  }
  return answer.size() > 12 ? std::atoi(answer.c_str() + 9) : 0;
}

struct RawAttack {
  const char* name;
  std::string bytes;
  std::vector<int> statuses;
};

std::vector<RawAttack> raw_attacks() {
  const std::string post =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
  return {
      {"a header of 64 kB",
       "GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(64 << 10, 'a') + "\r\n\r\n",
       {431}},
      {"2,000 headers",
       "GET /health HTTP/1.1\r\n" + repeated("X-Header: some value here\r\n", 2000) + "\r\n",
       {431}},
      {"a target of 64 kB",
       "GET /" + std::string(64 << 10, 'a') + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
       {400, 414, 431}},
      {"two lengths", post + "Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}", {400}},
      {"a length and chunks",
       post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       {400}},
      {"a negative length", post + "Content-Length: -1\r\n\r\n", {400}},
      {"a length past 64 bits", post + "Content-Length: 99999999999999999999\r\n\r\n", {400, 413}},
      {"a huge length", post + "Content-Length: 1099511627776\r\n\r\n", {413}},
      {"a chunk that is none", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", {400}},
      {"a chunk past 64 bits", post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", {400, 413}},
      {"a zero byte in a header", "GET /health HTTP/1.1\r\nHost: a\0b\r\n\r\n"s, {400}},
      {"bytes of TLS", "\x16\x03\x01\x02\x01\x01\xfc\x03\x03\r\n\r\n", {0, 400}},
      {"HTTP/2 at once", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0, 400, 505}},
      {"a path out of the tree",
       "GET /v1/models/../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
       {404}},
      {"the same with percent signs",
       "GET /v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
       {404}},
      {"another site's name", "GET /v1/models HTTP/1.1\r\nHost: attacker.example.com\r\n\r\n", {403}},
      {"a form of another site",
       "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
       "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
       {415}}};
}

class Attacks : public ::testing::Test {
 protected:
  void SetUp() override {
    *server.step_ms = 2;
    neighbour = std::async(std::launch::async, [this] {
      int64_t answers = 0;
      const std::string text = repeated("neighbour ", 10);
      do {
        const Stream stream = server.stream("/v1/completions", completion(text, {{"max_tokens", 120}}));
        if (stream.content() != text || !stream.done) return int64_t{-1};
        ++answers;
      } while (!over);
      return answers;
    });
  }
  void TearDown() override {
    over = true;
    EXPECT_GT(neighbour.get(), 0) << "the neighbour's answer was not its own";
    EXPECT_EQ(server.send("GET", "/health").status, 200);
    if (slowest > 0) fmt::print("the slowest refusal took {:.1f} ms: {}\n", slowest * 1e3, slowest_name);
  }
  void expect(const char* name, const std::vector<int>& statuses, const std::function<int()>& attack) {
    std::vector<double> times;
    int status = 0;
    for (int i = 0; i < (kLimit ? kRepeats : 1); ++i) {
      const auto start = Clock::now();
      status = attack();
      times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
      EXPECT_TRUE(std::find(statuses.begin(), statuses.end(), status) != statuses.end())
          << name << ": " << status;
    }
    std::sort(times.begin(), times.end());
    const double took = times[times.size() / 2];
    if (status == 200) return;  // an answer, which takes its time
    EXPECT_LT(took, kLimit ? std::atof(kLimit) / 1e3 : 5) << name;
    if (took > slowest) slowest = took, slowest_name = name;
  }
  void run(const std::vector<Attack>& attacks) {
    for (const Attack& attack : attacks)
      expect(attack.name, attack.statuses, [&] {
        const net::Response response = server.send("POST", attack.path, attack.body);
        if (response.status >= 400) {
          EXPECT_TRUE(TestJson::parse(response.body).contains("error")) << attack.name;
          EXPECT_LT(response.body.size(), 2048u) << attack.name << ": an error that is as long as its cause";
        }
        return response.status;
      });
  }

  TestServer server{{}, 512, 8};
  std::atomic<bool> over{false};
  std::future<int64_t> neighbour;
  double slowest = 0;
  std::string slowest_name;
};

TEST_F(Attacks, Numbers) { run(number_attacks()); }
TEST_F(Attacks, Grammars) { run(grammar_attacks()); }
TEST_F(Attacks, Chains) { run(chain_attacks()); }
TEST_F(Attacks, Contents) { run(content_attacks()); }

TEST_F(Attacks, Bytes) {
  for (const RawAttack& attack : raw_attacks())
    expect(attack.name, attack.statuses, [&] { return status_of(server.port(), attack.bytes); });
}

// Two hundred peers that send a byte and no more: each costs a descriptor until its time is up, nobody a
// thread.
TEST_F(Attacks, SlowClients) {
  std::vector<std::unique_ptr<net::ClientSocket>> sockets;
  for (int i = 0; i < 200; ++i) {
    sockets.push_back(std::make_unique<net::ClientSocket>(net::Url{false, "127.0.0.1", server.port(), "/"},
                                                          net::ClientOptions{}));
    sockets.back()->write("P");
  }
  expect("a request among them", {200}, [&] { return server.send("GET", "/v1/models").status; });
  expect("and a completion", {200},
         [&] { return server.send("POST", "/v1/completions", completion("x").dump()).status; });
}

// A message is data: neither the template's language nor its marks mean anything in it.
TEST_F(Attacks, MessagesAreNotTemplates) {
  for (const std::string text : {"{{ 7 * 7 }}", "{% for i in range(9) %}x{% endfor %}", "{{ messages }}"}) {
    const TestJson body = {{"messages", {{{"role", "user"}, {"content", text}}}}};
    const TestJson ids = server.post("/tokenize", body)["tokens"];
    EXPECT_NE(server.post("/detokenize", {{"tokens", ids}})["prompt"].get<std::string>().find(text),
              std::string::npos);
  }
}

}  // namespace
}  // namespace flagscale::serve::testing
