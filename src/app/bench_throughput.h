#pragma once

namespace CLI {
class App;
}

namespace flagscale {

// `flagscale bench throughput`: what `vllm bench throughput` measures, an engine without a server.
void add_bench_throughput(CLI::App& bench);

}  // namespace flagscale
