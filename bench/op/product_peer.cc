#include "bench/op/product_peer.h"

#ifdef FLAGSCALE_BENCH_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#endif

namespace flagscale::bench {

#ifdef FLAGSCALE_BENCH_ONEDNN

namespace {
dnnl::memory::desc description(const Tensor& t, bool transposed) {
  using dnnl::memory;
  const memory::dims shape = transposed ? memory::dims{t.dim(1), t.dim(0)} : memory::dims{t.dim(0), t.dim(1)};
  const memory::dims strides = transposed ? memory::dims{1, t.strides()[0]} : memory::dims{t.strides()[0], 1};
  return {shape, t.dtype() == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32, strides};
}
}  // namespace

struct ProductPeer::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul primitive;
  std::unordered_map<int, dnnl::memory> arguments;
};

ProductPeer::ProductPeer(const Tensor& a, const Tensor& b, const Tensor& out, bool trans_a, bool trans_b)
    : state_(std::make_unique<State>()) {
  const auto da = description(a, trans_a), db = description(b, trans_b), dc = description(out, false);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc primitive(state_->engine, da, db, dc);
#else
  const dnnl::matmul::primitive_desc primitive({da, db, dc}, state_->engine);
#endif
  state_->primitive = dnnl::matmul(primitive);
  state_->arguments = {{DNNL_ARG_SRC, {da, state_->engine, a.raw()}},
                       {DNNL_ARG_WEIGHTS, {db, state_->engine, b.raw()}},
                       {DNNL_ARG_DST, {dc, state_->engine, out.raw()}}};
}

void ProductPeer::run() const {
  state_->primitive.execute(state_->stream, state_->arguments);
  state_->stream.wait();
}

bool ProductPeer::available() { return true; }

#else

struct ProductPeer::State {};
ProductPeer::ProductPeer(const Tensor&, const Tensor&, const Tensor&, bool, bool) {}
void ProductPeer::run() const {}
bool ProductPeer::available() { return false; }

#endif

ProductPeer::~ProductPeer() = default;

}  // namespace flagscale::bench
