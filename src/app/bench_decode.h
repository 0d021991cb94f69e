#pragma once
// flagscale bench decode

namespace CLI {
class App;
}

namespace flagscale {

void add_bench_decode(CLI::App& bench);

}  // namespace flagscale
