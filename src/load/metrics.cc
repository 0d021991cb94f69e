#include "load/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace flagscale::load {

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double deviation(const std::vector<double>& values) {
  const double middle = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - middle) * (value - middle);
  return values.empty() ? 0 : std::sqrt(sum / static_cast<double>(values.size()));
}

double percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  const double at = percent / 100 * static_cast<double>(values.size() - 1);
  const auto below = std::min(static_cast<size_t>(at), values.size() - 1);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(below), values.end());
  const double low = values[below];
  if (below + 1 == values.size()) return low;
  const double high =
      *std::min_element(values.begin() + static_cast<std::ptrdiff_t>(below) + 1, values.end());
  return low + (at - static_cast<double>(below)) * (high - low);
}

namespace {

double time_per_token(const Record& record) {
  if (record.output_tokens <= 1) return 0;
  return (record.latency - record.first_token) / static_cast<double>(record.output_tokens - 1);
}

bool is_good(const Record& record, const std::map<std::string, double>& limits) {
  for (const auto& [name, most] : limits) {
    const double value = name == "ttft"   ? record.first_token
                         : name == "tpot" ? time_per_token(record)
                                          : record.latency;
    if (value * 1000 > most) return false;
  }
  return true;
}

void add_peaks(const Measured& run, Metrics& metrics) {
  double first = INFINITY, last = 0;
  std::vector<std::pair<double, int>> edges;
  for (const Record& record : run.records) {
    if (!record.success) continue;
    first = std::min(first, record.start);
    last = std::max(last, record.start + record.latency);
    edges.emplace_back(record.start, 1);
    edges.emplace_back(record.start + record.latency, -1);
  }
  if (edges.empty()) return;
  std::sort(edges.begin(), edges.end());  // an end before a beginning at the same time
  int64_t now = 0;
  for (const auto& [time, change] : edges)
    metrics.most_concurrent = std::max(metrics.most_concurrent, now += change);
  std::vector<double> seconds(static_cast<size_t>(std::ceil(last - first)) + 1);
  for (const Record& record : run.records) {
    if (!record.success) continue;
    double at = record.start - first + record.first_token;
    ++seconds[static_cast<size_t>(at)];
    for (const double gap : record.token_gaps) ++seconds[static_cast<size_t>(at += gap)];
  }
  metrics.most_tokens_per_second = *std::max_element(seconds.begin(), seconds.end());
}

}  // namespace

Metrics measure(const Measured& run, const std::map<std::string, double>& goodput) {
  Metrics m;
  int64_t good = 0;
  for (const Record& record : run.records) {
    if (!record.success) {
      ++m.failed;
      continue;
    }
    ++m.completed;
    m.total_input += record.prompt_tokens;
    m.total_output += record.output_tokens;
    if (record.output_tokens > 1) m.tpot.push_back(time_per_token(record));
    m.ttft.push_back(record.first_token);
    m.itl.insert(m.itl.end(), record.token_gaps.begin(), record.token_gaps.end());
    m.e2el.push_back(record.latency);
    m.queue.push_back(record.waited);
    m.e2el_with_queue.push_back(record.latency + record.waited);
    if (!goodput.empty() && is_good(record, goodput)) ++good;
  }
  const double seconds = std::max(run.seconds, 1e-9);
  m.request_throughput = static_cast<double>(m.completed) / seconds;
  m.request_goodput = static_cast<double>(good) / seconds;
  m.output_throughput = static_cast<double>(m.total_output) / seconds;
  m.total_token_throughput = static_cast<double>(m.total_input + m.total_output) / seconds;
  add_peaks(run, m);
  return m;
}

std::map<std::string, double> parse_goodput(const std::vector<std::string>& pairs) {
  std::map<std::string, double> limits;
  for (const std::string& pair : pairs) {
    const size_t colon = std::min(pair.find(':'), pair.size());
    const std::string name = pair.substr(0, colon);
    double value = -1;
    const char* begin = pair.data() + std::min(colon + 1, pair.size());
    const auto [end, error] = std::from_chars(begin, pair.data() + pair.size(), value);
    if ((name != "ttft" && name != "tpot" && name != "e2el") || error != std::errc() ||
        end != pair.data() + pair.size() || !(value >= 0))
      fail(ErrorKind::kInvalidArgument,
           "--goodput takes ttft, tpot or e2el with milliseconds, as ttft:200 e2el:1000, not '{}'", pair);
    limits[name] = value;
  }
  return limits;
}

}  // namespace flagscale::load
