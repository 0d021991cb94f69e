#pragma once
// `flagscale bench rows`: the table of docs/performance.md on this machine's GPU, each row by the YAML that
// it is.

namespace CLI {
class App;
}

namespace flagscale {

void add_bench_rows(CLI::App& bench);

}  // namespace flagscale
