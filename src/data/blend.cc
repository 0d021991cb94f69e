#include "data/blend.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"

namespace flagscale::data {
namespace {

// numpy.sum of contiguous doubles: sequential below 8, eight running sums up to 128, halves above.
double numpy_sum(std::span<const double> a) {
  const size_t n = a.size();
  if (n < 8) return std::accumulate(a.begin(), a.end(), 0.0);
  if (n > 128) {
    const size_t half = n / 2 - n / 2 % 8;
    return numpy_sum(a.first(half)) + numpy_sum(a.subspan(half));
  }
  std::array<double, 8> r;
  std::copy_n(a.begin(), 8, r.begin());
  size_t i = 8;
  for (; i + 8 <= n; i += 8)
    for (size_t k = 0; k < 8; ++k) r[k] += a[i + k];
  double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < n; ++i) sum += a[i];
  return sum;
}

std::optional<double> parse_number(const std::string& text) {
  const char* begin = text.c_str();
  char* end = nullptr;
  const double value = std::strtod(begin, &end);
  if (end == begin || text.find_first_not_of(" \t", static_cast<size_t>(end - begin)) != std::string::npos)
    return std::nullopt;
  return value;
}

std::string trimmed(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

void check_weights(const std::vector<double>& weights, const std::string& name) {
  for (const double weight : weights)
    if (!(weight >= 0) || !std::isfinite(weight))
      fail(ErrorKind::kInvalidArgument, "{}: weight {} is not a number of at least 0", name, weight);
  if (!(std::accumulate(weights.begin(), weights.end(), 0.0) > 0))
    fail(ErrorKind::kInvalidArgument, "{}: the weights add up to 0", name);
}

}  // namespace

std::vector<double> normalize(std::span<const double> weights) {
  const double sum = numpy_sum(weights);
  std::vector<double> result(weights.begin(), weights.end());
  for (double& weight : result) weight /= sum;
  return result;
}

SplitShares parse_split(const std::string& text, const std::string& name) {
  constexpr const char* kDigits = ".0123456789";
  std::vector<double> ratios;
  for (size_t at = text.find_first_of(kDigits); at != std::string::npos;) {
    const size_t end = std::min(text.find_first_not_of(kDigits, at), text.size());
    const auto number = parse_number(text.substr(at, end - at));
    if (!number)
      fail(ErrorKind::kInvalidArgument, "{}: \"{}\" in \"{}\" is not a number", name,
           text.substr(at, end - at), text);
    ratios.push_back(*number);
    at = text.find_first_of(kDigits, end);
  }
  if (text.find('-') != std::string::npos)
    fail(ErrorKind::kInvalidArgument, "{}: \"{}\" holds a minus sign, a share cannot be negative", name,
         text);
  // Megatron finds numbers between whatever else there is: of 1e-2 it makes 1 and 2.
  const auto letter = [](unsigned char c) { return std::isalpha(c) != 0; };
  if (!ratios.empty() && std::any_of(text.begin(), text.end(), letter))
    fail(ErrorKind::kInvalidArgument, "{}: \"{}\" is not made of plain numbers alone, like \"969, 30, 1\"",
         name, text);
  if (ratios.empty() || ratios.size() > kSplits)
    fail(ErrorKind::kInvalidArgument,
         "{}: \"{}\" holds {} numbers, expected train, valid, test shares like \"969, 30, 1\"", name, text,
         ratios.size());
  ratios.resize(kSplits, 0.0);
  check_weights(ratios, name);

  const auto shares = normalize(ratios);
  SplitShares result;
  double begin = 0;
  for (size_t i = 0; i < kSplits; ++i) {
    const double end = begin + shares[i];
    if (end > begin) result[i] = {begin, end};
    begin = end;
  }
  return result;
}

std::pair<int64_t, int64_t> split_range(std::pair<double, double> share, int64_t n) {
  const auto round = [n](double x) {
    return std::clamp<int64_t>(static_cast<int64_t>(std::nearbyint(x * static_cast<double>(n))), 0, n);
  };
  return {round(share.first), round(share.second)};
}

Blend parse_blend(const std::vector<std::string>& list, const std::string& name) {
  if (list.empty())
    fail(ErrorKind::kInvalidArgument, "{} is empty, expected at least one dataset prefix", name);
  Blend blend;
  size_t numbers = 0;
  if (list.size() % 2 == 0)
    for (size_t i = 0; i < list.size(); i += 2) numbers += parse_number(list[i]).has_value();
  if (numbers == 0) {
    for (const auto& prefix : list) blend.prefixes.push_back(trimmed(prefix));
  } else {
    for (size_t i = 0; i < list.size(); i += 2) {
      const auto weight = parse_number(list[i]);
      if (!weight)
        fail(ErrorKind::kInvalidArgument, "{}: \"{}\" should be a weight: give every dataset one or none",
             name, list[i]);
      blend.weights.push_back(*weight);
      blend.prefixes.push_back(trimmed(list[i + 1]));
    }
    check_weights(blend.weights, name);
  }
  if (blend.prefixes.size() > static_cast<size_t>(std::numeric_limits<int16_t>::max()))
    fail(ErrorKind::kInvalidArgument, "{}: {} datasets, at most 32767 can be blended", name,
         blend.prefixes.size());
  return blend;
}

int64_t samples_of_dataset(int64_t samples, double weight, double surplus) {
  const double share = std::ceil(static_cast<double>(samples) * weight);
  return static_cast<int64_t>(std::ceil(share * (1 + surplus)));
}

BlendIndex build_blend(std::span<const double> weights, int64_t size) {
  FLAGSCALE_CHECK(!weights.empty() && size >= 0);
  BlendIndex index;
  index.dataset.resize(static_cast<size_t>(size));
  index.sample.resize(static_cast<size_t>(size));
  std::vector<int64_t> used(weights.size(), 0);
  for (size_t i = 0; i < index.dataset.size(); ++i) {
    throw_if_interrupted();
    const double drawn = std::max(static_cast<double>(i), 1.0);
    size_t best = 0;
    double lag = weights[0] * drawn - static_cast<double>(used[0]);
    for (size_t d = 1; d < weights.size(); ++d)
      if (const double other = weights[d] * drawn - static_cast<double>(used[d]); other > lag)
        lag = other, best = d;
    index.dataset[i] = static_cast<int16_t>(best);
    index.sample[i] = used[best]++;
  }
  return index;
}

BlendIndex build_exhaustive_blend(std::span<const int64_t> sizes) {
  const int64_t total = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  BlendIndex index;
  index.dataset.reserve(static_cast<size_t>(total));
  index.sample.reserve(static_cast<size_t>(total));
  std::vector<int64_t> used(sizes.size(), 0);
  for (int64_t i = 0; i < total; ++i) {
    throw_if_interrupted();
    const double drawn = std::max(static_cast<double>(i), 1.0);
    size_t best = sizes.size();
    double lag = std::numeric_limits<double>::lowest();
    for (size_t d = 0; d < sizes.size(); ++d) {
      if (used[d] == sizes[d]) continue;
      const double weight = static_cast<double>(sizes[d]) / static_cast<double>(total);
      if (const double other = weight * drawn - static_cast<double>(used[d]); other > lag)
        lag = other, best = d;
    }
    index.dataset.push_back(static_cast<int16_t>(best));
    index.sample.push_back(used[best]++);
  }
  return index;
}

}  // namespace flagscale::data
