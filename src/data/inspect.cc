#include "data/inspect.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/indexed_reader.h"

namespace flagscale::data {
namespace {

constexpr int64_t kMostOfConversation = 1024;  // tokens shown

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
  for (const DocumentText& d : documents) {
    nlohmann::json document{{"tokens", d.tokens}, {"text", d.text}, {"cut", d.cut}};
    if (!d.runs.empty()) document["learnt_tokens"] = d.learnt;
    for (const DocumentText::Run& run : d.runs)
      document["runs"].push_back({{"text", run.text}, {"learnt", run.learnt}});
    json["first_documents"].push_back(std::move(document));
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

namespace {

std::string line_of(const DocumentText& document) {
  std::string words = document.text;
  std::replace(words.begin(), words.end(), '\n', ' ');
  return fmt::format("{} tokens: {}{}\n", document.tokens, words, document.cut ? " …" : "");
}

std::string masked_text(const DocumentText& document, bool colour) {
  std::string text = fmt::format("{} tokens, {} of them learnt:\n", document.tokens, document.learnt);
  for (const DocumentText::Run& run : document.runs)
    text += !run.learnt ? run.text
            : colour    ? fmt::format("\x1b[32m{}\x1b[0m", run.text)
                        : fmt::format("⟦{}⟧", run.text);
  if (document.cut) text += " …";
  return text + (text.ends_with('\n') ? "\n" : "\n\n");
}

// Tokens of a document from its first sequence on, at most `most`.
std::vector<int32_t> tokens_of(const IndexedReader& reader, int64_t document, int64_t most) {
  const IndexView& index = reader.index();
  std::vector<int32_t> ids;
  for (int64_t s = index.document(document); s < index.document(document + 1); ++s) {
    const int64_t wanted = std::clamp<int64_t>(most - static_cast<int64_t>(ids.size()), 0, index.length(s));
    const size_t before = ids.size();
    ids.resize(before + static_cast<size_t>(wanted));
    reader.read(s, 0, std::span(ids).subspan(before));
  }
  return ids;
}

// The pair of the loss mask beside a pair of tokens; empty where there is none.
std::string mask_beside(const std::string& prefix) {
  constexpr std::string_view kText = "_text_document";
  if (!prefix.ends_with(kText)) return {};
  const std::string mask = prefix.substr(0, prefix.size() - kText.size()) + "_loss_mask_document";
  return std::filesystem::exists(mask + ".idx") ? mask : std::string();
}

using Decode = std::function<std::string(std::span<const int32_t>)>;

void add_runs(std::span<const int32_t> ids, std::span<const int32_t> mask, const Decode& decode,
              DocumentText& document) {
  const size_t count = std::min(ids.size(), mask.size());
  for (size_t i = 0; i < count;) {
    size_t end = i + 1;
    while (end < count && mask[end] == mask[i]) ++end;
    document.runs.push_back({decode(ids.subspan(i, end - i)), mask[i] == 1});
    i = end;
  }
}

}  // namespace

std::string to_text(const std::vector<DocumentText>& documents, bool colour) {
  std::string lines;
  for (size_t i = 0; i < documents.size(); ++i)
    lines += fmt::format(
        "{}: {}", i, documents[i].runs.empty() ? line_of(documents[i]) : masked_text(documents[i], colour));
  return lines;
}

std::vector<DocumentText> first_documents(const std::string& prefix, int64_t count, int64_t max_tokens,
                                          const Decode& decode) {
  const IndexedReader reader(prefix);
  std::optional<IndexedReader> mask;
  if (const std::string beside = mask_beside(prefix); !beside.empty()) mask.emplace(beside);
  if (mask) max_tokens = std::max(max_tokens, kMostOfConversation);
  std::vector<DocumentText> documents;
  for (int64_t d = 0; d < std::min(count, reader.index().documents()); ++d) {
    const std::vector<int32_t> ids = tokens_of(reader, d, max_tokens);
    DocumentText document;
    for (int64_t s = reader.index().document(d); s < reader.index().document(d + 1); ++s)
      document.tokens += reader.index().length(s);
    document.text = decode(ids);
    document.cut = document.tokens > max_tokens;
    if (mask && d < mask->index().documents()) {
      const std::vector<int32_t> all = tokens_of(*mask, d, document.tokens);
      document.learnt = std::count(all.begin(), all.end(), 1);
      add_runs(ids, all, decode, document);
    }
    documents.push_back(std::move(document));
  }
  return documents;
}

}  // namespace flagscale::data
