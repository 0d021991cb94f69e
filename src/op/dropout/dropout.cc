#include "op/dropout/dropout.h"

#include "base/error.h"

namespace flagscale::op {

void launch_dropout(Recorder& recorder, const DropoutArgs& args) {
  const bool placed = args.x.rank == 3 && args.places.defined() && args.places.dtype == DType::kI32 &&
                      args.places.dims[0] == args.x.dims[0] && args.places.dims[1] == args.x.dims[1];
  const bool named =
      args.x.rank == 2 ? !args.places.defined() : placed || (args.x.rank == 3 && args.rate == 0);
  const bool alike =
      named && args.out.rank == args.x.rank && args.x.dims == args.out.dims && args.x.dtype == args.out.dtype;
  if (!alike || !(args.rate >= 0 && args.rate < 1) || (args.rate > 0 && !args.rows))
    fail(ErrorKind::kInvalidArgument, "[dropout] x [{}, {}] {}, out [{}, {}] {}, rate {}", args.x.dims[0],
         args.x.dims[1], name(args.x.dtype), args.out.dims[0], args.out.dims[1], name(args.out.dtype),
         args.rate);
  const auto elements =
      static_cast<double>(args.x.dims[0] * args.x.dims[1] * (args.x.rank == 3 ? args.x.dims[2] : 1));
  recorder.launch(kDropout, args,
                  {elements, 2 * elements * static_cast<double>(flagscale::size_of(args.x.dtype))});
}

}  // namespace flagscale::op
