#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/error.h"
#include "load/dataset.h"
#include "load/report.h"
#include "load/schedule.h"
#include "load/stream_reader.h"
#include "net/server.h"

namespace flagscale::load {
namespace {

using Json = nlohmann::json;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A token a letter; "ab" is one too, so that decoding and encoding again loses tokens.
class Letters final : public Tokens {
 public:
  Letters() : plain_(27) { std::iota(plain_.begin(), plain_.end(), 0); }
  std::vector<int32_t> encode(const std::string& text) override {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size(); ++i) {
      const bool pair = text[i] == 'a' && i + 1 < text.size() && text[i + 1] == 'b';
      ids.push_back(pair ? 26 : text[i] - 'a');
      i += pair;
    }
    return ids;
  }
  std::string decode(const std::vector<int32_t>& ids) override {
    std::string text;
    for (const int32_t id : ids)
      text += id == 26 ? std::string("ab") : std::string(1, static_cast<char>('a' + id));
    return text;
  }
  const std::vector<int32_t>& plain() override { return plain_; }

 private:
  std::vector<int32_t> plain_;
};

TEST(Dataset, RandomPromptsHaveTheirLength) {
  Letters tokens;
  DatasetOptions options;
  options.num_prompts = 200;
  options.input_length = 20, options.output_length = 8, options.prefix_length = 5;
  const auto samples = make_samples(options, tokens);
  ASSERT_EQ(samples.size(), 200u);
  std::set<std::string> different;
  for (const Sample& sample : samples) {
    EXPECT_EQ(sample.prompt_tokens, 25);
    EXPECT_EQ(tokens.encode(sample.prompt).size(), 25u);
    EXPECT_EQ(sample.output_tokens, 8);
    EXPECT_EQ(sample.prompt.substr(0, 3), samples[0].prompt.substr(0, 3));
    different.insert(sample.prompt);
  }
  EXPECT_GT(different.size(), 20u);
  EXPECT_EQ(make_samples(options, tokens)[7].prompt, samples[7].prompt);
  options.seed = 1;
  EXPECT_NE(make_samples(options, tokens)[7].prompt, samples[7].prompt);
  options.range_ratio = 0.5;
  std::set<int64_t> inputs, outputs;
  for (const Sample& sample : make_samples(options, tokens))
    inputs.insert(sample.prompt_tokens), outputs.insert(sample.output_tokens);
  EXPECT_GE(*inputs.begin(), 15);
  EXPECT_LE(*inputs.rbegin(), 35);
  EXPECT_EQ(*outputs.begin(), 4);
  EXPECT_EQ(*outputs.rbegin(), 12);
  options.range_ratio = 1;
  EXPECT_THROW(make_samples(options, tokens), Error);
}

TEST(Dataset, PrefixesRepeat) {
  Letters tokens;
  DatasetOptions options;
  options.name = "prefix_repetition";
  options.num_prompts = 64;
  options.num_prefixes = 4, options.repeated_prefix_length = 30, options.suffix_length = 10,
  options.repetition_output_length = 3;
  std::map<std::string, int> prefixes;
  for (const Sample& sample : make_samples(options, tokens)) {
    EXPECT_EQ(sample.prompt_tokens, 40);
    EXPECT_EQ(sample.output_tokens, 3);
    ++prefixes[sample.prompt.substr(0, 25)];
  }
  EXPECT_EQ(prefixes.size(), 4u);
  for (const auto& [prefix, count] : prefixes) EXPECT_EQ(count, 16);
  options.num_prompts = 3;
  EXPECT_THROW(make_samples(options, tokens), Error);
}

TEST(Dataset, ShareGpt) {
  Letters tokens;
  const auto path =
      std::filesystem::temp_directory_path() / ("sharegpt_" + std::to_string(getpid()) + ".json");
  std::ofstream(path) << Json{
      {{"conversations",
        {{{"from", "human"}, {"value", "abcdefgh"}}, {{"from", "gpt"}, {"value", "efghij"}}}}},
      {{"conversations", {{{"value", "short"}}}}},                                       // one turn
      {{"conversations", {{{"value", "abc"}}, {{"value", "abcdefgh"}}}}},                // 2 tokens
      {{"conversations", {{{"value", std::string(1500, 'c')}}, {{"value", "cdefg"}}}}},  // too long
      {{"other", 1}},
      3};
  DatasetOptions options;
  options.name = "sharegpt", options.path = path, options.num_prompts = 3;
  const auto samples = make_samples(options, tokens);
  ASSERT_EQ(samples.size(), 3u);  // one, oversampled
  EXPECT_EQ(samples[2].prompt, "abcdefgh");
  EXPECT_EQ(samples[2].prompt_tokens, 7);
  EXPECT_EQ(samples[2].output_tokens, 6);
  options.oversample = false, options.sharegpt_output_length = 2;
  ASSERT_EQ(make_samples(options, tokens).size(), 1u);
  EXPECT_EQ(make_samples(options, tokens)[0].output_tokens, 2);
  std::ofstream(path, std::ios::trunc) << "{}";
  EXPECT_THROW(make_samples(options, tokens), Error);
  std::filesystem::remove(path);
  EXPECT_THROW(make_samples(options, tokens), Error);
}

TEST(Schedule, KeepsItsRate) {
  EXPECT_EQ(send_times({}, 3, 0), (std::vector<double>{0, 0, 0}));
  const auto gaps_of = [](const RateOptions& options) {
    const auto times = send_times(options, 2000, 7);
    EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
    EXPECT_NEAR(times.back(), 200, 1e-9);  // 2000 at 10 a second
    std::vector<double> gaps;
    for (size_t i = 1; i < times.size(); ++i) gaps.push_back(times[i] - times[i - 1]);
    EXPECT_NEAR(mean(gaps), 0.1, 0.001);
    return deviation(gaps);
  };
  EXPECT_NEAR(gaps_of({.rate = 10}), 0.1, 0.01);                     // exponential: as wide as its mean
  EXPECT_NEAR(gaps_of({.rate = 10, .burstiness = 4}), 0.05, 0.005);  // gamma: 1 / sqrt(shape)
  EXPECT_NEAR(gaps_of({.rate = 10, .burstiness = 0.25}), 0.2, 0.03);
  EXPECT_NEAR(gaps_of({.rate = 10, .burstiness = kInfinity}), 0, 1e-9);
  RateOptions ramp;
  ramp.ramp_up = "linear", ramp.ramp_start = 1, ramp.ramp_end = 10, ramp.burstiness = kInfinity;
  const auto times = send_times(ramp, 10, 0);
  EXPECT_NEAR(times[0], 1, 1e-9);
  EXPECT_NEAR(times[9] - times[8], 0.1, 1e-9);
  for (const RateOptions& wrong :
       {RateOptions{.rate = 0}, RateOptions{.rate = -1}, RateOptions{.rate = 1, .burstiness = 0},
        RateOptions{.rate = 1, .ramp_up = "linear"}, RateOptions{.ramp_up = "exponential", .ramp_end = 3}})
    EXPECT_THROW(send_times(wrong, 2, 0), Error);
}

TEST(Metrics, AreNumpys) {
  const std::vector<double> values = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(percentile(values, 50), 2.5);
  EXPECT_DOUBLE_EQ(percentile(values, 99), 3.97);
  EXPECT_DOUBLE_EQ(percentile(values, 100), 4);
  EXPECT_DOUBLE_EQ(percentile(values, 0), 1);
  EXPECT_NEAR(deviation(values), 1.118033988749895, 1e-12);
  EXPECT_EQ(percentile({}, 50), 0);
}

Record record(double start, double first, std::vector<double> gaps, bool success = true) {
  Record r;
  r.success = success;
  r.start = start, r.first_token = first, r.token_gaps = std::move(gaps);
  r.latency = std::accumulate(r.token_gaps.begin(), r.token_gaps.end(), first);
  r.prompt_tokens = 10, r.output_tokens = static_cast<int64_t>(r.token_gaps.size()) + 1;
  if (!success) r.error = "no";
  return r;
}

TEST(Metrics, OfARun) {
  Measured run;
  run.seconds = 2, run.processor = 0.5;
  run.records = {record(0, 0.1, {0.2, 0.4}), record(0.5, 0.3, {}), record(0.6, 0.1, {0.1}),
                 record(0.6, 9, {9}, false)};
  const Metrics m = measure(run, parse_goodput({"ttft:200", "tpot:150"}));
  EXPECT_EQ(m.completed, 3);
  EXPECT_EQ(m.failed, 1);
  EXPECT_EQ(m.total_input, 30);
  EXPECT_EQ(m.total_output, 6);
  EXPECT_DOUBLE_EQ(m.request_throughput, 1.5);
  EXPECT_DOUBLE_EQ(m.request_goodput,
                   0.5);  // the third alone: the first is slow between tokens, the second at first
  EXPECT_DOUBLE_EQ(m.output_throughput, 3);
  ASSERT_EQ(m.tpot.size(), 2u);
  EXPECT_DOUBLE_EQ(m.tpot[0], 0.3);
  EXPECT_EQ(m.itl.size(), 3u);
  EXPECT_EQ(m.most_concurrent, 3);
  EXPECT_EQ(m.most_tokens_per_second, 6);
  for (const std::string wrong : {"ttft", "ttft:", "ttft:x", "itl:3", "ttft:-1", ":3", "ttft:3x"})
    EXPECT_THROW(parse_goodput({wrong}), Error) << wrong;

  ReportOptions options;
  options.backend = "openai", options.model = "a/m", options.num_prompts = 4, options.concurrency = 3,
  options.goodput = true;
  options.percentiles = {50, 99.9};
  options.percentile_metrics = {"ttft", "e2el"};
  options.metadata = {{"version", "1"}};
  options.rate.rate = 2;
  const Json json = Json::parse(report_json(options, run, m, "20260101-000000").dump());
  for (const char* key : {"date",
                          "endpoint_type",
                          "backend",
                          "label",
                          "model_id",
                          "tokenizer_id",
                          "num_prompts",
                          "version",
                          "request_rate",
                          "burstiness",
                          "max_concurrency",
                          "duration",
                          "completed",
                          "failed",
                          "total_input_tokens",
                          "total_output_tokens",
                          "request_throughput",
                          "request_goodput",
                          "output_throughput",
                          "total_token_throughput",
                          "max_output_tokens_per_s",
                          "max_concurrent_requests",
                          "mean_ttft_ms",
                          "median_ttft_ms",
                          "std_ttft_ms",
                          "p50_ttft_ms",
                          "p99.9_ttft_ms",
                          "p50_e2el_ms",
                          "client_cpu_share"})
    EXPECT_TRUE(json.contains(key)) << key;
  for (const char* key : {"ttfts", "mean_itl_ms", "p99_ttft_ms"}) EXPECT_FALSE(json.contains(key)) << key;
  EXPECT_TRUE(json["label"].is_null());
  EXPECT_DOUBLE_EQ(json["client_cpu_share"], 0.25);
  EXPECT_NEAR(json["mean_ttft_ms"], 500.0 / 3, 1e-9);
  options.detailed = true;
  EXPECT_EQ(report_json(options, run, m, "x")["itls"][0].size(), 2u);
  EXPECT_EQ(report_name(options, "D"), "openai-2.0qps-concurrency3-m-D.json");
  options.rate = {}, options.concurrency = 0, options.label = "l";
  EXPECT_EQ(report_name(options, "D"), "l-infqps-m-D.json");
  const std::string text = report_text(options, run, m);
  for (const std::string line :
       {"Successful requests:                     3 ", "Request throughput (req/s):              1.50 ",
        "------------End-to-end Latency------------", "P99.9 TTFT (ms):"})
    EXPECT_NE(text.find(line), std::string::npos) << text;
}

TEST(StreamReader, IsTheSameHoweverTheEventsAreCut) {
  const std::string stream =
      ": ping\r\n\r\ndata: {\"choices\": [{\"text\": \"a\"}], \"usage\": "
      "null}\n\ndata:{\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n"
      "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"stop\"}]}\r\n\r\ndata: {\"choices\": [], "
      "\"usage\": {\"prompt_tokens\": 7, "
      "\"completion_tokens\": 5}}\n\ndata: [DONE]\n\n";
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    StreamReader reader;
    Record r;
    reader.put(std::string_view(stream).substr(0, cut), 1, r);
    reader.put(std::string_view(stream).substr(cut), 1, r);
    EXPECT_EQ(r.text, "ab") << cut;
    EXPECT_EQ(r.token_gaps.size(), 2u);
    EXPECT_EQ(r.output_tokens, 5);
    EXPECT_EQ(r.prompt_tokens, 7);
    EXPECT_EQ(r.error, "");
    EXPECT_TRUE(reader.ended());
  }
  StreamReader reader;
  Record r;
  reader.put("data: {\"choices\": [{\"text\": \"a\", \"finish_reason\": null}]}\n\n", 1, r);
  EXPECT_TRUE(reader.started() && !reader.ended());
  reader.put("data: {\"error\": {\"message\": \"broken\"}}\n\n", 1, r);
  EXPECT_EQ(r.error, "broken");
  reader.put("data: {{\n\n", 1, r);
  EXPECT_NE(r.error.find("not JSON"), std::string::npos);
}

// A server that answers n tokens, and counts.
class Fake {
 public:
  Fake() : server_({}, [this](const std::shared_ptr<net::Exchange>& exchange) { answer(exchange); }) {}
  Load load(size_t count, int64_t concurrency = 0) const {
    Load load;
    load.bodies.assign(count, "{}");
    load.times.assign(count, 0.0);
    load.prompt_tokens.assign(count, 3);
    load.server = {false, "127.0.0.1", server_.port(), "/v1/completions"};
    load.concurrency = concurrency;
    return load;
  }
  std::atomic<int> requests{0}, under_way{0}, most{0};
  std::atomic<bool> refuses{false}, closes{false}, hangs{false};
  int connections() const { return server_.connections(); }

 private:
  void answer(const std::shared_ptr<net::Exchange>& exchange) {
    ++requests;
    if (hangs) return waiting_.push_back(exchange);
    if (refuses && requests % 2 == 0)
      return exchange->respond({429, "application/json", R"({"error": {"message": "too busy"}})"});
    most = std::max<int>(most, ++under_way);
    exchange->post([this, exchange] {
      --under_way;
      exchange->begin(
          {200, "text/event-stream", "", closes ? net::Headers{{"Connection", "close"}} : net::Headers{}});
      exchange->write(
          "data: {\"choices\": [{\"text\": \"x\"}]}\n\ndata: {\"choices\": [{\"text\": \"y\"}]}\n\n");
      exchange->write(
          "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 4, \"completion_tokens\": 2}}\n\ndata: "
          "[DONE]\n\n");
      exchange->end();
    });
  }
  std::vector<std::shared_ptr<net::Exchange>> waiting_;
  net::Server server_;
};

TEST(Driver, SendsEverythingOverKeptConnections) {
  Fake fake;
  const Measured run = drive(fake.load(500, 8), [](size_t) { return true; });
  ASSERT_EQ(run.records.size(), 500u);
  for (const Record& r : run.records) {
    ASSERT_TRUE(r.success) << r.error;
    EXPECT_EQ(r.text, "xy");
    EXPECT_EQ(r.output_tokens, 2);
    EXPECT_EQ(r.prompt_tokens, 4);
    EXPECT_GT(r.first_token, 0);
    EXPECT_GE(r.latency, r.first_token);
    EXPECT_LE(r.start + r.latency, run.seconds + 1e-6);
  }
  EXPECT_EQ(fake.requests, 500);
  EXPECT_LE(measure(run, {}).most_concurrent, 8);
  EXPECT_GT(run.processor, 0);
}

TEST(Driver, KeepsToTheTimes) {
  Fake fake;
  Load load = fake.load(20);
  for (size_t i = 0; i < 20; ++i) load.times[i] = 0.01 * static_cast<double>(i);
  const Measured run = drive(load, [](size_t) { return true; });
  for (size_t i = 0; i < 20; ++i) EXPECT_GE(run.records[i].start, load.times[i]);
  EXPECT_GE(run.seconds, 0.19);
}

TEST(Driver, SaysWhatFailed) {
  Fake fake;
  fake.refuses = true;
  Measured run = drive(fake.load(10, 1), [](size_t) { return true; });
  EXPECT_EQ(measure(run, {}).failed, 5);
  EXPECT_EQ(run.records[1].error, "429 Too Many Requests: too busy");
  Load nobody = fake.load(3);
  nobody.server.port = 1;
  run = drive(nobody, [](size_t) { return true; });
  ASSERT_EQ(run.records.size(), 3u);
  EXPECT_NE(run.records[0].error.find("refused"), std::string::npos) << run.records[0].error;
}

TEST(Driver, IsStopped) {
  Fake fake;
  fake.hangs = true;
  int asked = 0;
  const Measured run = drive(fake.load(50, 4), [&](size_t) { return ++asked < 2; });
  EXPECT_TRUE(run.interrupted);
  EXPECT_TRUE(run.records.empty());
  EXPECT_EQ(fake.requests, 4);
}

}  // namespace
}  // namespace flagscale::load
