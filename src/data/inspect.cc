#include "data/inspect.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/indexed_reader.h"

namespace flagscale::data {
namespace {

nlohmann::json rounded(double value) { return std::round(value * 1e6) / 1e6; }

}  // namespace

DatasetFacts inspect_dataset(const std::string& prefix, const std::string& split) {
  const IndexedReader reader(prefix);
  const IndexView& index = reader.index();
  DatasetFacts facts;
  facts.prefix = prefix;
  facts.type = name(index.type());
  facts.sequences = index.sequences();
  facts.documents = index.documents();
  facts.tokens = index.tokens();
  facts.bin_bytes = reader.bin_bytes();
  facts.unused_bin_bytes = reader.bin_bytes() - index.bin_bytes_used();
  facts.modes = index.has_modes();
  facts.shortest = index.sequences() > 0 ? std::numeric_limits<int32_t>::max() : 0;
  for (int64_t s = 0; s < index.sequences(); ++s) {
    facts.shortest = std::min<int64_t>(facts.shortest, index.length(s));
    facts.longest = std::max<int64_t>(facts.longest, index.length(s));
  }
  for (int64_t d = 0; d < index.documents(); ++d)
    facts.empty_documents += index.document(d) == index.document(d + 1);

  for (const auto& all : split_statistics(reader, "1")) {
    facts.unigram_entropy = all.unigram_entropy;
    facts.distinct_ids = all.distinct_tokens;
    facts.largest_id = all.largest_token;
  }
  if (!split.empty()) facts.splits = split_statistics(reader, split);
  return facts;
}

std::string to_text(const DatasetFacts& f) {
  std::string text = fmt::format("{}\n", f.prefix);
  const auto line = [&](std::string_view what, const std::string& value) {
    text += fmt::format("  {:<16} {}\n", what, value);
  };
  line("documents", f.empty_documents > 0
                        ? fmt::format("{} ({} without tokens)", f.documents, f.empty_documents)
                        : fmt::format("{}", f.documents));
  line("sequences", fmt::format("{} of {} to {} tokens", f.sequences, f.shortest, f.longest));
  line("tokens", fmt::format("{} as {}{}", f.tokens, f.type, f.modes ? ", with modes" : ""));
  line("ids", fmt::format("{} different ones up to {}", f.distinct_ids, f.largest_id));
  line("unigram entropy", fmt::format("{:.4f} nats a token", f.unigram_entropy));
  line("bytes", f.unused_bin_bytes > 0
                    ? fmt::format("{} in .bin, {} of them not named by .idx", f.bin_bytes, f.unused_bin_bytes)
                    : fmt::format("{} in .bin", f.bin_bytes));
  for (const auto& split : f.splits)
    line("split " + split.name, fmt::format("{} sequences, {} tokens, unigram entropy {:.4f}",
                                            split.sequences, split.tokens, split.unigram_entropy));
  return text;
}

std::string to_json(const DatasetFacts& f, const std::vector<DocumentText>& documents) {
  nlohmann::json entropy = {{"all", rounded(f.unigram_entropy)}}, splits = nlohmann::json::object();
  for (const auto& split : f.splits) {
    entropy[split.name] = rounded(split.unigram_entropy);
    splits[split.name] = {{"sequences", split.sequences}, {"tokens", split.tokens}};
  }
  nlohmann::json json = {
      {"prefix", f.prefix},
      {"type", f.type},
      {"documents", f.documents},
      {"empty_documents", f.empty_documents},
      {"sequences", f.sequences},
      {"tokens", f.tokens},
      {"shortest", f.shortest},
      {"longest", f.longest},
      {"distinct_ids", f.distinct_ids},
      {"largest_id", f.largest_id},
      {"unigram_entropy", entropy},
      {"bin_bytes", f.bin_bytes},
      {"unused_bin_bytes", f.unused_bin_bytes},
      {"modes", f.modes},
      {"splits", splits},
  };
  for (const DocumentText& d : documents)
    json["first_documents"].push_back({{"tokens", d.tokens}, {"text", d.text}, {"cut", d.cut}});
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string to_text(const std::vector<DocumentText>& documents) {
  std::string lines;
  for (size_t i = 0; i < documents.size(); ++i) {
    std::string words = documents[i].text;
    std::replace(words.begin(), words.end(), '\n', ' ');
    lines +=
        fmt::format("{}: {} tokens: {}{}\n", i, documents[i].tokens, words, documents[i].cut ? " …" : "");
  }
  return lines;
}

std::vector<DocumentText> first_documents(
    const std::string& prefix, int64_t count, int64_t max_tokens,
    const std::function<std::string(std::span<const int32_t>)>& decode) {
  const IndexedReader reader(prefix);
  const IndexView& index = reader.index();
  std::vector<DocumentText> documents;
  for (int64_t d = 0; d < std::min(count, index.documents()); ++d) {
    std::vector<int32_t> ids;
    DocumentText document;
    for (int64_t s = index.document(d); s < index.document(d + 1); ++s) {
      const int64_t wanted =
          std::clamp<int64_t>(max_tokens - static_cast<int64_t>(ids.size()), 0, index.length(s));
      const size_t before = ids.size();
      ids.resize(before + static_cast<size_t>(wanted));
      reader.read(s, 0, std::span(ids).subspan(before));
      document.tokens += index.length(s);
    }
    document.text = decode(ids);
    document.cut = document.tokens > max_tokens;
    documents.push_back(std::move(document));
  }
  return documents;
}

}  // namespace flagscale::data
