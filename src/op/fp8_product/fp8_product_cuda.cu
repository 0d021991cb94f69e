// Products are cuBLASLt's.
#include "kernel/cuda/cublas.h"
#include "kernel/cuda/cuda.cuh"
#include "op/fp8_product/fp8_product.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

void run(KernelContext& context, const Fp8ProductArgs& args) {
  const bool sums = args.sum.defined();
  const TensorView& c = sums ? static_cast<const TensorView&>(args.sum) : args.out;
  const int64_t m = args.a.dims[0], n = args.b.dims[0], k = args.a.dims[1];
  multiply({args.a.data,
            args.b.data,
            args.bias.defined() ? args.bias.data : nullptr,
            c.data,
            m,
            n,
            k,
            k,
            k,
            c.row_stride(),
            false,
            true,
            sums && (!args.accumulate || *args.accumulate != 0),
            DType::kU8,
            c.dtype,
            {args.a_format, args.a_shared, args.a_scales.data},
            {args.b_format, args.b_shared, args.b_scales.data}},
           context.workspace.data());
}

size_t workspace(const Fp8ProductArgs&, int) { return kProductWorkspace; }

const CudaKernel<Fp8ProductArgs> kKernel{kFp8Product, &run, &workspace};

}  // namespace
}  // namespace flagscale::op
