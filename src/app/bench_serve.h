#pragma once

namespace CLI {
class App;
}

namespace flagscale {

// `flagscale bench serve`: the arguments of `vllm bench serve`.
void add_bench_serve(CLI::App& bench);

}  // namespace flagscale
