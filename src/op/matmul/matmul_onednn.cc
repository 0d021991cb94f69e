#include "op/matmul/matmul_onednn.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "base/error.h"

#ifdef FLAGSCALE_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#endif

namespace flagscale::op {

namespace {

bool wanted() {
  const char* const provider = std::getenv("FLAGSCALE_MATMUL");
  if (!provider || std::string_view(provider) == "own") return false;
  if (std::string_view(provider) != "onednn")
    fail(ErrorKind::kInvalidArgument, "FLAGSCALE_MATMUL is \"{}\": say own or onednn", provider);
  return true;
}

}  // namespace

#ifdef FLAGSCALE_ONEDNN

namespace {

using dnnl::memory;

memory::desc description(const TensorView& t, bool transposed) {
  const auto type = t.dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  if (t.rank == 1) return {{1, t.dims[0]}, type, memory::dims{t.dims[0], 1}};
  if (transposed) return {{t.dims[1], t.dims[0]}, type, memory::dims{1, t.row_stride()}};
  return {{t.dims[0], t.dims[1]}, type, memory::dims{t.row_stride(), 1}};
}

dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, const MatmulArgs& args, bool add) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (add) {
    dnnl::post_ops sum;
    sum.append_sum(1.f);
    attributes.set_post_ops(sum);
  }
  const auto a = description(args.a, args.trans_a), b = description(args.b, args.trans_b);
  const auto c = description(args.out.defined() ? static_cast<const TensorView&>(args.out) : args.sum, false);
  // 2.x describes an operation first; 3.x describes the primitive at once.
#if DNNL_VERSION_MAJOR >= 3
  if (args.bias.defined()) return {engine, a, b, description(args.bias, false), c, attributes};
  return {engine, a, b, c, attributes};
#else
  if (args.bias.defined()) return {{a, b, description(args.bias, false), c}, attributes, engine};
  return {{a, b, c}, attributes, engine};
#endif
}

// One primitive with its memory objects; addresses are set when it runs.
class Product {
 public:
  Product(const dnnl::engine& engine, const MatmulArgs& args, bool add) {
    const auto description = describe(engine, args, add);
    primitive_ = dnnl::matmul(description);
    const auto object = [&](int which, const memory::desc& desc) {
      memory_.emplace(which, memory(desc, engine, nullptr));
    };
    object(DNNL_ARG_SRC, description.src_desc());
    object(DNNL_ARG_WEIGHTS, description.weights_desc());
    object(DNNL_ARG_DST, description.dst_desc());
    if (args.bias.defined()) object(DNNL_ARG_BIAS, description.query_md(dnnl::query::weights_md, 1));
    object(DNNL_ARG_SCRATCHPAD, description.scratchpad_desc());
    scratchpad_ = description.scratchpad_desc().get_size();
  }
  size_t scratchpad() const { return scratchpad_; }

  void run(dnnl::stream& stream, const MatmulArgs& args, void* scratchpad) {
    memory_.at(DNNL_ARG_SRC).set_data_handle(args.a.data);
    memory_.at(DNNL_ARG_WEIGHTS).set_data_handle(args.b.data);
    memory_.at(DNNL_ARG_DST).set_data_handle(args.out.defined() ? args.out.data : args.sum.data);
    if (args.bias.defined()) memory_.at(DNNL_ARG_BIAS).set_data_handle(args.bias.data);
    memory_.at(DNNL_ARG_SCRATCHPAD).set_data_handle(scratchpad);
    primitive_.execute(stream, memory_);
    stream.wait();
  }

 private:
  dnnl::matmul primitive_;
  std::unordered_map<int, memory> memory_;
  size_t scratchpad_ = 0;
};

class OneDnnLaunch final : public Launch {
 public:
  explicit OneDnnLaunch(const MatmulArgs& args)
      : args_(args), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), write_(engine_, args, false) {
    if (args.sum.defined()) add_ = std::make_unique<Product>(engine_, args, true);
  }
  const char* name() const override { return "matmul_onednn"; }
  size_t workspace(DeviceKind device, Isa isa, int threads) const override {
    const size_t theirs = std::max(write_.scratchpad(), add_ ? add_->scratchpad() : 0);
    return std::max(theirs, kMatmul.workspace(device, isa, args_, threads));
  }
  void resolve(DeviceKind device, Isa isa) override { kernel_ = kMatmul.kernel(device, isa); }

  void run(KernelContext& context) const override {
    if (args_.a.rows() != args_.a.dims[0] || args_.b.rows() != args_.b.dims[0])
      return kernel_(context, args_);
    const bool add = add_ && (!args_.accumulate || *args_.accumulate != 0);
    try {
      (add ? *add_ : write_).run(stream_, args_, context.workspace.data());
    } catch (const dnnl::error& error) {
      fail(ErrorKind::kResource, "[matmul] oneDNN: {}", error.what());
    }
  }

  std::vector<Use> uses() override {
    std::vector<Use> result;
    const auto add = [&](TensorView& view, Access access) {
      if (view.defined()) result.push_back({&view, access});
    };
    add(args_.a, Access::kRead), add(args_.b, Access::kRead), add(args_.bias, Access::kRead);
    add(args_.out, Access::kWrite), add(args_.sum, Access::kReadWrite);
    return result;
  }

 private:
  MatmulArgs args_;
  dnnl::engine engine_;
  mutable dnnl::stream stream_;  // handles: a run changes addresses, not what is computed
  mutable Product write_;
  std::unique_ptr<Product> add_;
  KernelSlot<MatmulArgs>::Kernel* kernel_ = nullptr;
};

}  // namespace

bool has_onednn() { return true; }

std::unique_ptr<Launch> onednn_product(const MatmulArgs& args) {
  if (!wanted() || args.a.dtype == DType::kF64 || args.a.live != nullptr ||
      args.a.dims[0] * args.a.dims[1] * args.b.dims[0] * args.b.dims[1] == 0)
    return nullptr;
  try {
    return std::make_unique<OneDnnLaunch>(args);
  } catch (const dnnl::error&) {
    return nullptr;  // a combination of types that this version or CPU has no primitive for
  }
}

#else

bool has_onednn() { return false; }

std::unique_ptr<Launch> onednn_product(const MatmulArgs&) {
  if (wanted())
    fail(ErrorKind::kUnsupported,
         "FLAGSCALE_MATMUL=onednn: this program was built without oneDNN (libdnnl-dev)");
  return nullptr;
}

#endif

}  // namespace flagscale::op
